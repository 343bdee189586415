"""Layers that move elements, against NumPy on public arrays."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.layers.base import to_public
from cnnspec.layers.reshape import ChannelShuffle, Flatten, PixelShuffle, Reshape
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate


def test_flatten_takes_channels_first() -> None:
    bench = Bench(Flatten(), [(2, 3, 4)], sizes=[5])
    images = to_public(bench.inputs[0])  # n, c, h, w
    np.testing.assert_array_equal(to_public(bench.forward()), images.reshape(5, 24))
    bench.backward()
    gradients = to_public(bench.output_grads[0]).reshape(images.shape)
    np.testing.assert_array_equal(to_public(bench.input_grads[0]), gradients)


def test_flatten_leaves_a_vector_as_it_is() -> None:
    bench = Bench(Flatten(), [(7,)])
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0])


@pytest.mark.parametrize("shape", [(2, 3, 4), (6, 1, 4), (24,)])
@pytest.mark.parametrize("target", [(4, 3, 2), (1, 24, 1), (24,)])
def test_reshape_keeps_the_order_of_public_arrays(shape: Shape, target: Shape) -> None:
    bench = Bench(Reshape(shape=target), [shape], sizes=[5])
    images = to_public(bench.inputs[0])
    np.testing.assert_array_equal(to_public(bench.forward()), images.reshape(5, *target))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_agrees_with_onnx(factor: int) -> None:
    bench = Bench(PixelShuffle(factor=factor), [(2 * factor**2, 3, 4)])
    expected = evaluate("DepthToSpace", bench.inputs[0], blocksize=factor, mode="CRD")
    np.testing.assert_array_equal(bench.forward(), expected)


def test_channel_shuffle_deals_groups_out_in_turn() -> None:
    bench = Bench(ChannelShuffle(groups=2), [(6, 2, 3)])
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0][:, [0, 3, 1, 4, 2, 5]])


def test_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"expected .* of 24 elements, got 5x5x1"):
        Reshape(shape=(5, 5, 1)).infer_shape((2, 3, 4))
    with pytest.raises(ShapeError, match="expected a number of groups that divides 6 channels, got 4"):
        ChannelShuffle(groups=4).infer_shape((6, 2, 3))
    with pytest.raises(ShapeError, match="expected a factor whose square divides 6 channels, got 2"):
        PixelShuffle(factor=2).infer_shape((6, 2, 3))
