"""Products of values with values: attention between pixels, and matrix products of maps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import Pair, PositiveInt
from cnnspec.kernels.elementwise import accumulate, copy, sum_over
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map, text


@register("attention")
class Attention(Layer):
    """Every pixel becomes a weighted mean of all pixels: its query times their keys gives the weights; (c, h, w) stays.

    For each of the heads, d = c / heads channels each: y_i = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j, over the pixels
    j of the map, or of the pixel's own window. Queries, keys and values are in_weight x + in_bias, and the heads'
    outputs, one behind the other, pass through out_weight and out_bias; in PyTorch's order, nn.MultiheadAttention's.
    in_weight (3c, c), in_bias (3c,), out_weight (c, c), out_bias (c,). It does not know where a pixel is: see
    `positions`. Source: Vaswani et al., "Attention is all you need" (2017).
    """

    heads: Annotated[PositiveInt, "parts that the channels are divided into, each with weights of its own"]
    window: Annotated[Pair | None, "rows and columns that see each other; the whole map unless given"] = None
    bias: Annotated[Literal["channel", "none"], "one a channel of queries, keys, values and output, or none"] = (
        "channel"
    )
    weight_init: Annotated[InitializerField, "how the weights start"] = "glorot"
    bias_init: Annotated[InitializerField, "how the biases start"] = "zeros"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError where heads or windows do not divide it."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        if channels % self.heads:
            raise ShapeError(
                f"expected a number of heads that divides {channels} channels, got {self.heads}", field="heads"
            )
        rows, columns = self._window(height, width)
        if height % rows or width % columns:
            raise ShapeError(
                f"expected a window that divides the {height}x{width} map, got {rows}x{columns}", field="window"
            )
        return inputs[0]

    def _window(self, height: int, width: int) -> tuple[int, int]:
        return self.window or (height, width)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return in_weight (3c, c), in_bias (3c,), out_weight (c, c) and out_bias (c,)."""
        c = inputs[0][0]
        params = {}
        for name, rows in (("in", 3 * c), ("out", c)):
            params[f"{name}_weight"] = Parameter((rows, c), self.weight_init, fans=(c, c), decays=True)
            if self.bias == "channel":
                params[f"{name}_bias"] = Parameter((rows,), self.bias_init)
        return params

    def cost(self, *inputs: Shape) -> int:
        """4 c^2 for each pixel, and 2 c for each pair of pixels in a window."""
        c, h, w = inputs[0]
        rows, columns = self._window(h, w)
        return h * w * (4 * c**2 + 2 * c * rows * columns)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return pixels window by window, (channels, windows, pixels), and the weights (heads, windows, L, L)."""
        c, h, w = inputs[0]
        rows, columns = self._window(h, w)
        pixels = rows * columns
        windows = h * w // pixels * n
        each, triple = (c, windows, pixels), (3 * c, windows, pixels)
        pairs, row = (self.heads, windows, pixels, pixels), (self.heads, windows, pixels, 1)
        buffers = {
            "pixels": Buffer(each, "kept"),
            "projected": Buffer(triple, "kept"),
            "weights": Buffer(pairs, "kept"),
            "mixed": Buffer(each, "kept"),
            "result": Buffer(each),
            "row": Buffer(row),
        }
        if mode == "train":
            buffers |= {
                "gradient": Buffer(each, "shared"),
                "mixed_gradient": Buffer(each, "shared"),
                "projected_gradient": Buffer(triple, "shared"),
                "weights_gradient": Buffer(pairs, "shared"),
                "product": Buffer(pairs, "shared"),
                "row_gradient": Buffer(row, "shared"),
                "pixels_gradient": Buffer(each, "input"),
            }
        return buffers

    def _by_window(self, array: Array) -> Array:
        """A map (h, c, w, n) as (c, windows down, windows across, n, rows, columns)."""
        h, c, w, n = array.shape
        rows, columns = self._window(h, w)
        cut = array.reshape(h // rows, rows, c, w // columns, columns, n)
        return cut.transpose(2, 0, 3, 5, 1, 4)

    def _by_head(self, array: Array, parts: int) -> Array:
        """Channels (parts c, windows, pixels) as (parts, heads, windows, d, pixels)."""
        _, windows, pixels = array.shape
        return array.reshape(parts, self.heads, -1, windows, pixels).swapaxes(2, 3)

    def forward(self, o: Operands) -> Steps:
        """Bind the projections, the softmax of all products of queries and keys, and the means of values."""
        pixels, projected, weights, mixed, result, row = (
            o.buffers[name] for name in ("pixels", "projected", "weights", "mixed", "result", "row")
        )
        (query, key, value), (head,) = self._by_head(projected, 3), self._by_head(mixed, 1)
        source, target = self._by_window(o.x), self._by_window(o.y)
        scale = 1 / sqrt(len(pixels) // self.heads)
        return [
            copy(source, pixels.reshape(source.shape)),
            *_projection(o, "in", pixels, projected),
            partial(np.matmul, query.swapaxes(-1, -2), key, weights),
            partial(np.multiply, weights, scale, weights),
            partial(np.maximum.reduce, weights, -1, None, row, True),
            partial(np.subtract, weights, row, weights),
            partial(np.exp, weights, weights),
            partial(np.add.reduce, weights, -1, None, row, True),
            partial(np.divide, weights, row, weights),
            partial(np.matmul, value, weights.swapaxes(-1, -2), head),
            *_projection(o, "out", mixed, result),
            copy(result.reshape(target.shape), target),
        ]

    def backward(self, o: Operands) -> Backward:
        """With P the weights and dP = dy' v: the gradient of q k / sqrt(d) is P (dP - the sum of dP P over a row)."""
        pixels, projected, weights, mixed = (o.buffers[name] for name in ("pixels", "projected", "weights", "mixed"))
        gradient, mixed_gradient, projected_gradient, row = (
            o.buffers[name] for name in ("gradient", "mixed_gradient", "projected_gradient", "row_gradient")
        )
        weights_gradient, product = o.buffers["weights_gradient"], o.buffers["product"]
        (query, key, value), (dhead,) = self._by_head(projected, 3), self._by_head(mixed_gradient, 1)
        dquery, dkey, dvalue = self._by_head(projected_gradient, 3)
        source = self._by_window(o.dy)
        scale = 1 / sqrt(len(pixels) // self.heads)
        shared: list[Step] = [
            copy(source, gradient.reshape(source.shape)),
            partial(np.matmul, o.params["out_weight"].T, _flat(gradient), _flat(mixed_gradient)),
            partial(np.matmul, dhead, weights, dvalue),
            partial(np.matmul, dhead.swapaxes(-1, -2), value, weights_gradient),
            partial(np.multiply, weights_gradient, weights, product),
            partial(np.add.reduce, product, -1, None, row, True),
            partial(np.subtract, weights_gradient, row, weights_gradient),
            partial(np.multiply, weights_gradient, weights, weights_gradient),
            partial(np.multiply, weights_gradient, scale, weights_gradient),
            partial(np.matmul, key, weights_gradient.swapaxes(-1, -2), dquery),
            partial(np.matmul, query, weights_gradient, dkey),
        ]
        params = [*_gradients(o, "in", pixels, projected_gradient), *_gradients(o, "out", mixed, gradient)]
        if o.dx is None:
            return Backward(shared=shared, params=params)
        pixels_gradient, target = o.buffers["pixels_gradient"], self._by_window(o.dx)
        back: list[Step] = [
            partial(np.matmul, o.params["in_weight"].T, _flat(projected_gradient), _flat(pixels_gradient)),
            copy(pixels_gradient.reshape(target.shape), target),
        ]
        return Backward(back, params, shared)


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _projection(o: Operands, name: str, source: Array, target: Array) -> list[Step]:
    """target = weight source + bias, for every pixel."""
    steps: list[Step] = [partial(np.matmul, o.params[f"{name}_weight"], _flat(source), _flat(target))]
    bias = o.params.get(f"{name}_bias")
    return steps if bias is None else [*steps, accumulate(_flat(target), bias[:, None])]


def _gradients(o: Operands, name: str, source: Array, gradient: Array) -> list[Step]:
    weight, bias = o.grads[f"{name}_weight"], o.grads.get(f"{name}_bias")
    steps: list[Step] = [partial(np.matmul, _flat(gradient), _flat(source).T, weight)]
    return steps if bias is None else [*steps, sum_over(1, _flat(gradient), bias)]


@register("matmul")
class Matmul(Layer):
    """y = A B, the matrix product of two maps, each channel by itself: (c, h, k) and (c, k, w) -> (c, h, w).

    With `transpose: first` A is (c, k, h), with `transpose: second` B is (c, w, k).
    """

    transpose: Annotated[Literal["none", "first", "second"], "which input's rows and columns are exchanged"] = "none"

    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c, h, w); ShapeError where the inputs have other channels, or what is summed over differs."""
        (c, *left), (channels, *right) = (expect_map(shape, self.type_name) for shape in inputs)
        if self.transpose == "first":
            left.reverse()
        if self.transpose == "second":
            right.reverse()
        if c != channels or left[1] != right[0]:
            raise ShapeError(
                f"expected as many channels, and as many columns of the first as rows of the second input, "
                f"got {text(inputs[0])} and {text(inputs[1])}",
                field="from",
                help="transpose: first or second exchanges the rows and columns of an input",
            )
        return (c, left[0], right[1])

    def cost(self, *inputs: Shape) -> int:
        """Return c h w k: each element of y is a sum of k products."""
        c, h, w = self.infer_shape(*inputs)
        return c * h * w * inputs[0][1 if self.transpose == "first" else 2]

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return matrices (n, c, rows, columns) of both inputs, which are kept, of y, and of the gradients."""
        first, second = ((n, *shape) for shape in inputs)
        result = (n, *self.infer_shape(*inputs))
        buffers = {"first": Buffer(first, "kept"), "second": Buffer(second, "kept"), "result": Buffer(result)}
        if mode == "train":
            buffers["gradient"] = Buffer(result, "input")
            buffers |= {"first_gradient": Buffer(first, "input"), "second_gradient": Buffer(second, "input")}
        return buffers

    def _factors(self, first: Array, second: Array) -> tuple[Array, Array]:
        return (
            first.swapaxes(-1, -2) if self.transpose == "first" else first,
            second.swapaxes(-1, -2) if self.transpose == "second" else second,
        )

    def forward(self, o: Operands) -> Steps:
        """Bind copies of both inputs with their rows and columns last, and the products of all channels."""
        first, second, result = (o.buffers[name] for name in ("first", "second", "result"))
        copies = [copy(_matrices(x), matrices) for x, matrices in zip(o.inputs, (first, second), strict=True)]
        return [*copies, partial(np.matmul, *self._factors(first, second), result), copy(result, _matrices(o.y))]

    def backward(self, o: Operands) -> Backward:
        """Bind dA = dy B' and dB = A' dy."""
        gradient = o.buffers["gradient"]
        steps: list[Step] = [copy(_matrices(o.dy), gradient)]
        left, right = self._factors(o.buffers["first"], o.buffers["second"])
        into = self._factors(o.buffers["first_gradient"], o.buffers["second_gradient"])
        operands = ((gradient, right.swapaxes(-1, -2)), (left.swapaxes(-1, -2), gradient))
        for dx, name, factors, out in zip(o.input_grads, ("first", "second"), operands, into, strict=True):
            if dx is not None:
                steps += [partial(np.matmul, *factors, out), copy(o.buffers[f"{name}_gradient"], _matrices(dx))]
        return Backward(steps)


def _matrices(array: Array) -> Array:
    """A map (h, c, w, n) as (n, c, h, w)."""
    return array.transpose(3, 1, 0, 2)
