"""Functions of one number, and the affine map of each channel, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.layers.pointwise import Clip, ScaleShift, Square
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench


def test_square() -> None:
    bench = Bench(Square(), [(2, 3, 4)])
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0] ** 2)


@pytest.mark.parametrize(("low", "high"), [(None, 0.5), (-0.5, None), (0.0, 0.25)])
def test_clip_is_flat_beyond_its_bounds(low: float | None, high: float | None) -> None:
    bench = Bench(Clip(min=low, max=high), [(2, 3, 4)])
    x = bench.inputs[0]
    np.testing.assert_array_equal(bench.forward(), np.clip(x, low, high))
    bench.backward()
    inside = (x > (-np.inf if low is None else low)) & (x < (np.inf if high is None else high))
    np.testing.assert_array_equal(bench.input_grads[0], bench.output_grads[0] * inside)


def test_clip_needs_bounds_with_room_between_them() -> None:
    with pytest.raises(ShapeError, match="expected a bound, min or max"):
        Clip().infer_shape((3,))
    with pytest.raises(ShapeError, match="expected max above min, got 1 and 2") as caught:
        Clip(min=2, max=1).infer_shape((3,))
    assert caught.value.field == "max"


def test_fixed_numbers_are_no_parameters() -> None:
    layer = ScaleShift.of(scale=[1, 2, -3], shift=0.5, learned=False)
    bench = Bench(layer, [(3, 4, 5)])
    assert not layer.params((3, 4, 5))
    expected = bench.inputs[0] * np.array([1.0, 2, -3])[:, None, None] + 0.5
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-14)


@pytest.mark.parametrize("fields", [{"scale": 1e-6, "shift": "none"}, {"scale": [1e-6, 1e-6, 1e-6], "shift": "none"}])
def test_a_learned_scale_starts_as_given(fields: dict[str, Any]) -> None:
    (scale,) = ScaleShift.of(**fields).params((3, 4, 5)).values()
    assert scale.shape == (3,)
    start = np.empty(3)
    scale.initializer.fill(start, scale.fans, np.random.default_rng(0))
    np.testing.assert_array_equal(start, 1e-6)


def test_as_many_numbers_as_channels() -> None:
    with pytest.raises(ShapeError, match="expected 1 number or 3, got 2") as caught:
        ScaleShift.of(shift=[1, 2]).infer_shape((3, 4, 5))
    assert caught.value.field == "shift"
    with pytest.raises(ShapeError, match="expected a scale or a shift"):
        ScaleShift.of(scale="none", shift="none").infer_shape((3, 4, 5))
