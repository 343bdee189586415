"""Noise has the distribution that is asked for, in training alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.layers.noise import Noise, Reparameterize
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench

SHAPE: Shape = (10, 20, 20)


def drawn(layer: Layer, shapes: Sequence[Shape], *inputs: float) -> Array:
    """The output of 20,000 numbers, for inputs that are each of one number."""
    bench = Bench(layer, shapes, sizes=[5])
    for array, value in zip(bench.shards[0].operands.inputs, inputs, strict=True):
        array.fill(value)
    return bench.forward()


@pytest.mark.parametrize(
    ("y", "mean", "deviation"),
    [
        (drawn(Noise(std=0.5), [SHAPE], 3.0), 3.0, 0.5),
        (drawn(Reparameterize(), [SHAPE, SHAPE], -2.0, np.log(9.0)), -2.0, 3.0),
    ],
)
def test_noise_is_normal(y: Array, mean: float, deviation: float) -> None:
    z = (y - mean) / deviation
    assert abs(z.mean()) < 0.03
    assert z.std() == pytest.approx(1, abs=0.02)
    for bound, share in ((1, 0.8413), (-1, 0.1587), (2, 0.9772)):
        assert (z < bound).mean() == pytest.approx(share, abs=0.012)


def test_at_inference_there_is_none() -> None:
    for layer, shapes in ((Noise(std=5), [SHAPE]), (Reparameterize(), [SHAPE, SHAPE])):
        bench = Bench(layer, shapes, mode="infer")
        np.testing.assert_array_equal(bench.forward(), bench.inputs[0])


def test_means_and_variances_are_of_one_shape() -> None:
    with pytest.raises(ShapeError, match="of one shape, got 3x2x2 and 3x2x1"):
        Reparameterize().infer_shape((3, 2, 2), (3, 2, 1))
