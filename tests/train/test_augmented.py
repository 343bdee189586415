"""Training on augmented and mixed images: it learns, and by the same bits whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.data import open_data
from cnnspec.kernels.step import Array
from cnnspec.spec import loads
from cnnspec.train import Epoch, fit

SPEC = """
cnnspec: 1
name: augmented
seed: {seed}
input: [1, 8, 8]
layers: [{{type: conv2d, filters: 8, kernel_size: 3}}, relu, flatten, {{type: dense, units: 10}}]
data:
  source: digits
  augment: [{augment}]
train: {{epochs: {epochs}, batch_size: 64, optimizer: {{type: sgd, learning_rate: 0.1, momentum: 0.9}}}}
"""
ALL = "{type: crop, padding: 1}, {type: rotate, degrees: 5}, scale, {type: elastic, alpha: 5}, brightness, contrast, "
ALL += "{type: cutout, size: 2, probability: 0.5}, mixup, cutmix"


def trained(augment: str, *, seed: int = 0, threads: int = 2, epochs: int = 2) -> tuple[Model, list[Epoch]]:
    spec = loads(SPEC.format(augment=augment, seed=seed, epochs=epochs))
    assert spec.data is not None
    model = compile(spec, threads=threads)
    return model, list(fit(model, open_data(spec.data, seed=seed)))


def weights(augment: str, *, seed: int = 0, threads: int = 2) -> Array:
    return trained(augment, seed=seed, threads=threads)[0].weights.values


@pytest.mark.parametrize("augment", [ALL, "{type: shift, pixels: 1}"], ids=["all", "shift"])
def test_a_seed_gives_the_same_bits_on_any_number_of_threads(augment: str) -> None:
    first = weights(augment, threads=1)
    for threads in (2, 4):
        np.testing.assert_array_equal(weights(augment, threads=threads), first)
    assert not np.array_equal(weights(augment, seed=1), first)


def test_mixed_labels_are_learned() -> None:
    _, epochs = trained("{type: mixup, alpha: 0.4}, {type: crop, padding: 1}", epochs=10)
    last = epochs[-1]
    assert last.test is not None
    assert last.test.accuracy is not None
    assert last.train.loss is not None
    assert last.test.accuracy > 0.9
    assert last.train.loss > 0.3  # of mixed targets, which have an entropy of their own
