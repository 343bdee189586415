"""PReLU: an activation whose slope below 0 is learned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import numpy as np

from cnnspec.kernels import sums
from cnnspec.kernels.step import Buffer
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape


@register("prelu")
class Prelu(Layer):
    """y = max(x, 0) + weight min(x, 0), one weight for each channel. Source: He et al. (2015)."""

    weight_init: Annotated[InitializerField, "how the slopes below 0 start"] = MappingProxyType(
        {"type": "constant", "value": 0.25}
    )

    retains = frozenset({"x"})

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c,), the slope of each channel."""
        return {"weight": Parameter((inputs[0][0],), self.weight_init)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array for the part below 0, and in training for the products of both gradients and sums of rows."""
        shape = batch_shape(inputs[0], n)
        rows = (inputs[0][1] if len(inputs[0]) == 3 else 1, inputs[0][0])
        backward = {"below": Buffer(shape, "input")}
        backward |= {"product": Buffer(shape, "params"), "partial": Buffer(rows, "params")}
        return {"negative": Buffer(shape)} | (backward if mode == "train" else {})

    def forward(self, o: Operands) -> Steps:
        """Bind the sum of the part above 0 and the weighted part below it."""
        x, y, negative, weight = (
            sums.rows_of(o.x),
            sums.rows_of(o.y),
            sums.rows_of(o.buffers["negative"]),
            o.params["weight"],
        )

        def step() -> None:
            np.clip(x, -np.inf, 0, out=negative)
            np.multiply(negative, weight[:, None], out=negative)
            np.clip(x, 0, np.inf, out=y)
            np.add(y, negative, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """dweight = sum of dy min(x, 0); dx = dy for x > 0, else weight dy."""
        x, dy, product, weight = (
            sums.rows_of(o.x),
            sums.rows_of(o.dy),
            sums.rows_of(o.buffers["product"]),
            o.params["weight"],
        )
        add_up = sums.channel_sum(o.buffers["product"], o.grads["weight"], o.buffers["partial"])

        def multiply() -> None:
            np.clip(x, -np.inf, 0, out=product)
            np.multiply(product, dy, out=product)

        if o.dx is None:
            return Backward(params=[multiply, add_up])
        dx, below = sums.rows_of(o.dx), sums.rows_of(o.buffers["below"])

        def step() -> None:
            np.greater(x, 0, out=below)
            np.multiply(dy, below, out=dx)
            np.subtract(dy, dx, out=below)
            np.multiply(below, weight[:, None], out=below)
            np.add(dx, below, out=dx)

        return Backward(input=[step], params=[multiply, add_up])
