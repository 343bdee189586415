"""Layers with several inputs: values, shapes, and what they say about shapes that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.layers.base import Layer
from cnnspec.layers.merge import Add, Concat, Fork, Maximum, Minimum, Multiply, Subtract
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench

MAP: Shape = (2, 3, 4)


def test_add() -> None:
    bench = Bench(Add(), [MAP, MAP, MAP])
    np.testing.assert_allclose(bench.forward(), sum(bench.inputs), rtol=1e-14)
    bench.backward()
    for dx in bench.input_grads:
        np.testing.assert_array_equal(dx, bench.output_grads[0])


def test_concat_keeps_the_order_of_its_inputs() -> None:
    maps, vectors = Bench(Concat(), [MAP, (1, 3, 4)]), Bench(Concat(), [(2,), (3,)])
    np.testing.assert_array_equal(maps.forward(), np.concatenate(maps.inputs, axis=1))
    np.testing.assert_array_equal(vectors.forward(), np.concatenate(vectors.inputs, axis=0))
    assert maps.layer.infer_shape(MAP, (1, 3, 4)) == (3, 3, 4)


@pytest.mark.parametrize("gate", [(2,), (2, 1, 1), (1, 3, 4), (1, 1, 1), MAP])
def test_multiply_repeats_gates_over_maps(gate: Shape) -> None:
    bench = Bench(Multiply(), [MAP, gate])
    x, factor = bench.inputs
    expected = x * (factor[None, :, None, :] if factor.ndim == 2 else factor)
    np.testing.assert_array_equal(bench.forward(), expected)


@pytest.mark.parametrize("other", [(2,), (2, 1, 1), (1, 3, 4), (1, 1, 1), MAP])
@pytest.mark.parametrize(
    ("layer", "operation"),
    [(Add(broadcast=True), np.add), (Subtract(), np.subtract), (Maximum(), np.maximum), (Minimum(), np.minimum)],
)
def test_merges_repeat_axes_of_length_one(layer: Layer, operation: np.ufunc, other: Shape) -> None:
    bench = Bench(layer, [MAP, other])
    left, right = bench.inputs
    expected = operation(left, right[None, :, None, :] if right.ndim == 2 else right)
    np.testing.assert_array_equal(bench.forward(), expected)


@pytest.mark.parametrize("layer", [Maximum(), Minimum()])
def test_the_gradient_of_equals_goes_to_the_first(layer: Layer) -> None:
    bench = Bench(layer, [MAP, MAP, MAP])
    for x in bench.shards[0].operands.inputs:
        x.fill(0.5)
    bench.forward()
    bench.backward()
    first, *others = bench.input_grads
    np.testing.assert_array_equal(first, bench.output_grads[0])
    assert not any(other.any() for other in others)


def test_one_input_passes_through_every_merge() -> None:
    for layer in (Add(), Concat(), Multiply(), Fork()):
        bench = Bench(layer, [MAP])
        np.testing.assert_array_equal(bench.forward(), bench.inputs[0])
        bench.backward()
        np.testing.assert_array_equal(bench.input_grads[0], bench.output_grads[0])


def test_add_in_place_of_its_first_input() -> None:
    apart, together = Bench(Add(), [MAP, MAP]), Bench(Add(), [MAP, MAP], in_place=True)
    np.testing.assert_array_equal(together.forward(), apart.forward())


def test_fork_in_place_sums_into_its_first_gradient() -> None:
    bench = Bench(Fork(), [MAP], in_place=True, readers=3)
    expected = sum(bench.output_grads)
    bench.forward()
    bench.backward()
    np.testing.assert_allclose(bench.input_grads[0], expected, rtol=1e-14)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="expected inputs of one shape, 2x3x4, got 2x3x5 as input 2"):
        Add().infer_shape(MAP, (2, 3, 5))
    with pytest.raises(ShapeError, match="expected maps of 3x4 to join over channels, got 2x4x4 as input 3"):
        Concat().infer_shape(MAP, MAP, (2, 4, 4))
    with pytest.raises(ShapeError, match="expected vectors to join over channels, got 2x3x4 as input 2"):
        Concat().infer_shape((5,), MAP)
    with pytest.raises(ShapeError, match="expected axes of length 1 or of 3x3x4, got 2x3x4 as input 1") as caught:
        Multiply().infer_shape(MAP, (3, 1, 1))
    assert caught.value.field == "from"
    assert caught.value.help is not None
    assert "a vector or a 1x1 map with as many channels" in caught.value.help
