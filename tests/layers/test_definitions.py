"""Layers that ONNX has no operator for, or not in this form, against loops over their definitions."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec.kernels.step import Array
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.response_norm import LocalResponseNorm
from cnnspec.layers.transposed import ConvTranspose2d
from cnnspec.shapes import Shape, ShapeError
from tests.layers.draws import lengths, maps, new, numbers, paddings, pairs
from tests.layers.harness import Bench


@settings(max_examples=50, deadline=None)
@given(shape=maps, size=st.integers(1, 6), alpha=numbers, beta=numbers)
def test_local_response_norm_against_its_formula(shape: Shape, size: int, alpha: float, beta: float) -> None:
    """The reference evaluator takes as many channels as there are images, so here are the loops."""
    bench = Bench(LocalResponseNorm(size=size, alpha=alpha, beta=beta, k=1.5), [shape], sizes=[2])
    x = bench.inputs[0]
    expected = np.empty_like(x)
    for c in range(shape[0]):
        window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        expected[:, c] = x[:, c] / (1.5 + alpha / size * (window**2).sum(1)) ** beta
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-12)


def naive_transposed(layer: ConvTranspose2d, x: Array, weight: Array) -> Array:
    """By the definition: every pixel adds its window."""
    laid = layer.windows((x.shape[1], x.shape[0], x.shape[2]))
    (h, c, w, n), per = x.shape, layer.filters // layer.groups
    top, bottom, left, right = laid.padding
    y = np.zeros((laid.height + top + bottom, layer.filters, laid.width + left + right, n))
    for i in range(h):
        for j in range(w):
            for u in range(layer.kernel_size[0]):
                for v in range(layer.kernel_size[1]):
                    row, column = i * laid.stride[0] + u * laid.dilation[0], j * laid.stride[1] + v * laid.dilation[1]
                    for channel in range(c):
                        first = channel // (c // layer.groups) * per
                        place = y[row, first : first + per, column]
                        place += weight[channel, :, u, v, None] * x[i, channel, j]
    return y[top : y.shape[0] - bottom, :, left : y.shape[2] - right]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_transposed_convolution_against_loops(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 2))
    stride = data.draw(pairs)
    layer = ConvTranspose2d(
        filters=groups * data.draw(st.integers(1, 2)),
        kernel_size=data.draw(pairs),
        stride=stride,
        dilation=data.draw(pairs),
        padding=data.draw(paddings),
        output_padding=(data.draw(st.integers(0, stride[0] - 1)), data.draw(st.integers(0, stride[1] - 1))),
        groups=groups,
        bias="none",
    )
    shape = (groups * data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    bench = Bench(layer, [shape], sizes=[2])
    y = bench.forward()
    np.testing.assert_allclose(y, naive_transposed(layer, bench.inputs[0], bench.params["weight"]), atol=1e-12)


def test_padding_same_is_told_apart() -> None:
    """Of an even length at stride 2: TensorFlow pads the end, ONNX's SAME_LOWER the beginning, PyTorch's half both."""
    names = ("same", "same_lower", "half")
    found = {
        name: Conv2d(filters=1, kernel_size=(3, 3), stride=(2, 2), padding=name).windows((1, 8, 8)).padding
        for name in names
    }
    assert found == {"same": (0, 1, 0, 1), "same_lower": (1, 0, 1, 0), "half": (1, 1, 1, 1)}


@settings(max_examples=50, deadline=None)
@given(groups=st.integers(1, 4), per=st.integers(1, 4), height=lengths, width=lengths)
def test_channel_shuffle_deals_the_channels_of_each_group(groups: int, per: int, height: int, width: int) -> None:
    bench = Bench(new("channel_shuffle", groups=groups), [(groups * per, height, width)], sizes=[2])
    dealt = [group * per + place for place in range(per) for group in range(groups)]
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0][:, dealt])


@settings(max_examples=50, deadline=None)
@given(shape=maps, size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_adaptive_pooling_averages_its_bins(shape: Shape, size: tuple[int, int]) -> None:
    """Bin i of n of a length l goes from floor(i l / n) to ceil((i + 1) l / n), as PyTorch's does."""
    bench = Bench(new("adaptive_avg_pool2d", output_size=size), [shape], sizes=[2])
    x, (_, height, width) = bench.inputs[0], shape
    expected = np.empty((size[0], shape[0], size[1], 2))
    for i, j in np.ndindex(*size):
        rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
        columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
        expected[i, :, j] = x[rows, :, columns].mean((0, 2))
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-12)
