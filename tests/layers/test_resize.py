"""Margins and repeated pixels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.layers.resample import Upsample2d
from cnnspec.layers.resize import Crop2d, ZeroPad2d
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench


def test_zero_pad_writes_its_margins_at_every_step() -> None:
    bench = Bench(ZeroPad2d.of(padding=[1, 2, 0, 3]), [(2, 4, 5)])
    expected = np.pad(bench.inputs[0], [(1, 2), (0, 0), (0, 3), (0, 0)])
    np.testing.assert_array_equal(bench.forward(), expected)
    bench.shards[0].operands.y.fill(np.nan)
    np.testing.assert_array_equal(bench.forward(), expected)


def test_crop_undoes_padding() -> None:
    bench = Bench(Crop2d.of(cropping=[1, 2]), [(2, 4, 7)])
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0][1:3, :, 2:5])
    bench.backward()
    np.testing.assert_array_equal(bench.input_grads[0], np.pad(bench.output_grads[0], [(1, 1), (0, 0), (2, 2), (0, 0)]))


def test_upsample_repeats_pixels() -> None:
    bench = Bench(Upsample2d.of(scale=[2, 3]), [(2, 3, 4)])
    assert bench.shape == (2, 6, 12)
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0].repeat(2, axis=0).repeat(3, axis=2))


def test_cropping_everything_is_an_error() -> None:
    with pytest.raises(ShapeError, match="expected margins smaller than the 4x7 map, got 4 rows and 0 columns") as e:
        Crop2d.of(cropping=[2, 0]).infer_shape((1, 4, 7))
    assert e.value.field == "cropping"
