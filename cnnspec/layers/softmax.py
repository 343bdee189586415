"""Softmax over the channels of a map or the features of a vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnspec.kernels.step import Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape


@register("softmax")
class Softmax(Layer):
    """y_c = exp(x_c) / sum_k exp(x_k) over the channels of a map or the features of a vector."""

    non_negative = True
    probabilities = True
    retains = frozenset({"y"})
    in_place = True
    gradient_place = "dy"

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array of one number for each position; in training also one of x's shape."""
        shape = batch_shape(inputs[0], n)
        row = batch_shape((1, *inputs[0][1:]), n)
        buffers = {"row": Buffer(row)}
        if mode == "train":
            buffers |= {"weighted": Buffer(shape, "input"), "row_again": Buffer(row, "input")}
        return buffers

    def forward(self, o: Operands) -> Steps:
        """Bind the exponentials over their sum; the largest x is subtracted first, so that nothing overflows."""
        x, y, row = o.x, o.y, o.buffers["row"]
        axis = 1 if x.ndim == 4 else 0

        def step() -> None:
            np.maximum.reduce(x, axis=axis, out=row, keepdims=True)
            np.subtract(x, row, out=y)
            np.exp(y, out=y)
            np.add.reduce(y, axis=axis, out=row, keepdims=True)
            np.divide(y, row, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """dx = y (dy - sum_k dy_k y_k)."""
        y, dy, dx = o.y, o.dy, o.dx
        if dx is None:
            return Backward()
        weighted, row = o.buffers["weighted"], o.buffers["row_again"]
        axis = 1 if y.ndim == 4 else 0

        def step() -> None:
            np.multiply(dy, y, out=weighted)
            np.add.reduce(weighted, axis=axis, out=row, keepdims=True)
            np.subtract(dy, row, out=dx)
            np.multiply(dx, y, out=dx)

        return Backward([step])
