"""Gradients that all shards make together: those of the definition, every element once, summed with nothing."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.plan import shards_of
from cnnspec.plan.gathered import Gathered, gathered
from cnnspec.spec import loads

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


def model(of_layer: str = "", more: str = "") -> Model:
    spec = loads(NET % (of_layer, more))
    return Model(spec, build(spec), threads=1, dtype="float64")


def gradients(net: Model, images: Array, labels: Array) -> list[dict[str, Array]]:
    """Those of every shard, by name."""
    plan = net.plan(len(images), "train", "float64")
    plan.images[...], plan.labels[...] = images, labels
    plan.gradients()
    assert plan.training is not None
    return [net.weights.trained_in(flat) for flat in plan.training.gradients[: len(shards_of(len(images)))]]


@pytest.mark.parametrize("count", [32, 70, 128])
def test_they_are_the_sum_of_those_of_small_batches(count: int) -> None:
    net, random = model(), np.random.default_rng(0)
    images, labels = random.standard_normal((count, 3, 8, 8)), random.integers(0, 5, count)
    whole = gradients(net, images, labels)
    pieces = [gradients(model(), images[i : i + 10], labels[i : i + 10])[0] for i in range(0, count, 10)]
    for name in ("large.weight", "second.weight"):
        expected = sum(
            len(images[i : i + 10]) / count * p[name] for i, p in zip(range(0, count, 10), pieces, strict=True)
        )
        np.testing.assert_allclose(whole[0][name], expected, rtol=1e-10, atol=1e-15)
        assert not any(shard[name].any() for shard in whole[1:])


@pytest.mark.parametrize("more", ["", ", clip: {value: 0.001}", ", clip: {norm: 0.01}"])
def test_a_step_is_its_two_halves(more: str) -> None:
    random, results = np.random.default_rng(0), []
    images, labels = random.standard_normal((70, 3, 8, 8)), random.integers(0, 5, 70)
    for halves in (False, True):
        net = model(more=more)
        plan = net.plan(70, "train", "float64")
        plan.images[...], plan.labels[...] = images, labels
        for _ in range(3):
            if halves:
                plan.gradients()
                plan.apply(0.1)
            else:
                plan.step(0.1)
        results.append(net.weights.values.copy())
    np.testing.assert_array_equal(results[0], results[1])


def test_which_are_gathered() -> None:
    """Large ones that are trained, and that no other node uses."""
    assert set(gathered(build(loads(NET % ("", ""))))) == {"large", "second"}
    assert set(gathered(build(loads(NET % (", trainable: false", ""))))) == {"second"}
    later = "  - {id: third, type: dense, units: 192}\n  - tanh\n  - {type: dense, units: 192, share: third}\n"
    text = NET.replace("  - {id: small", later + "  - tanh\n  - {id: small")
    assert set(gathered(build(loads(text % ("", ""))))) == {"large", "second"}


@pytest.mark.parametrize("rows", [1, 5, 16, 31, 64, 100, 128, 129, 500, 4096])
def test_tasks_make_every_element_once(rows: int) -> None:
    random = np.random.default_rng(rows)
    x, dy, gradient = random.standard_normal((7, 9)), random.standard_normal((rows, 9)), np.full((rows, 7), np.nan)
    node = build(loads(NET % ("", ""))).nodes[1]
    tasks = list(Gathered(node, "weight", x, dy, gradient).tasks())
    ends = 0
    for part, step in tasks:
        assert part.start == ends
        assert np.isnan(gradient.reshape(-1)[part]).all()
        step()
        ends = part.stop
    assert ends == gradient.size
    np.testing.assert_allclose(gradient, np.einsum("ui,fi->uf", dy, x))
    assert len(tasks) > 1 or rows <= 32
