"""Gradients that are made for the images of all shards at once: those of the definition, every element once."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.plan import Choices, Training, Weights, lower
from cnnspec.plan.schedule.batch_gradients import row_blocks
from cnnspec.plan.schedule.partition import divide
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool

NET = """
cnnspec: 1
name: net
input: [3, 8, 8]
layers:
  - flatten
  - {id: large, type: dense, units: 90%s}
  - tanh
  - {id: second, type: dense, units: 192}
  - tanh
  - {id: small, type: dense, units: 5}
train: {epochs: 1, optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}%s}
"""


def gradient_of(count: int, images: Array, labels: Array, choices: Choices) -> dict[str, Array]:
    """The gradient of the mean loss over a batch, by the names of parameters."""
    spec = loads(NET % ("", ""))
    assert spec.train is not None
    graph = build(spec)
    weights = Weights(graph, dtype="float64")
    weights.initialise(0)
    training = Training(weights, spec.train.optimizer)
    loss = spec.train.loss
    plan = lower(graph, count, "train", weights, WorkerPool(1), loss=loss, training=training, choices=choices)
    plan.images[...], plan.labels[...] = images, labels
    plan.compute()
    return {name: array.copy() for name, array in weights.trained_in(training.gradients[0]).items()}


@pytest.mark.parametrize("count", [32, 70, 128])
def test_they_are_the_mean_of_those_of_small_batches(count: int) -> None:
    random = np.random.default_rng(0)
    images, labels = random.standard_normal((count, 3, 8, 8)), random.integers(0, 5, count)
    whole = gradient_of(count, images, labels, Choices())
    expected = {name: np.zeros_like(array) for name, array in whole.items()}
    for first in range(0, count, 10):
        part = slice(first, min(first + 10, count))
        size = part.stop - part.start
        for name, array in gradient_of(size, images[part], labels[part], Choices()).items():
            expected[name] += size / count * array
    by_shards = gradient_of(count, images, labels, Choices(batch_gradients=False))
    for name, array in expected.items():
        np.testing.assert_allclose(whole[name], array, rtol=1e-10, atol=1e-15, err_msg=name)
        np.testing.assert_allclose(by_shards[name], array, rtol=1e-10, atol=1e-15, err_msg=name)


def test_large_trained_ones_that_no_other_node_uses() -> None:
    def chosen(text: str) -> set[str]:
        return set(divide(build(loads(text)), 64, "train").batch_gradients)

    assert chosen(NET % ("", "")) == {"large", "second"}
    assert chosen(NET % (", trainable: false", "")) == {"second"}
    later = "  - {id: third, type: dense, units: 192}\n  - tanh\n  - {type: dense, units: 192, share: third}\n"
    assert chosen((NET % ("", "")).replace("  - {id: small", later + "  - tanh\n  - {id: small")) == {"large", "second"}
    assert not divide(build(loads(NET % ("", ""))), 31, "train").batch_gradients


def test_those_of_a_batch_whose_x_and_dy_are_larger_are_made_by_shards() -> None:
    """Twice the 192 x 90 weights of either layer are more than 192 + 90 numbers of 122 images, but not of 123."""
    graph = build(loads(NET % ("", "")))
    assert set(divide(graph, 122, "train").batch_gradients) == {"large", "second"}
    assert not divide(graph, 123, "train").batch_gradients


@pytest.mark.parametrize("rows", [1, 5, 16, 31, 64, 100, 128, 129, 500, 4096])
def test_blocks_hold_every_row_once(rows: int) -> None:
    blocks = list(row_blocks(rows))
    assert [row for block in blocks for row in range(rows)[block]] == list(range(rows))
    assert len(blocks) > 1 or rows <= 32
