"""Local response normalisation, over neighbouring channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from cnnspec.fields import NonNegativeNumber, PositiveInt, PositiveNumber
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, expect_map


@register("local_response_norm")
class LocalResponseNorm(Layer):
    """Divides by the activity of neighbouring channels: y = x / (k + alpha/size sum of x^2 over the window)^beta.

    The window of channel c is c - floor((size - 1)/2) to c + ceil((size - 1)/2), as ONNX has it.
    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (2012).
    """

    size: Annotated[PositiveInt, "channels of a window"] = 5
    alpha: Annotated[NonNegativeNumber, "weight of the mean square"] = 1e-4
    beta: Annotated[PositiveNumber, "exponent"] = 0.75
    k: Annotated[PositiveNumber, "added to the mean square"] = 1.0

    retains = frozenset({"x"})

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the map; ShapeError for a vector."""
        return expect_map(inputs[0], self.type_name)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the squares, the base of the power, which backward reads, and in training the terms of dx."""
        shape = batch_shape(inputs[0], n)
        buffers = {"square": Buffer(shape), "base": Buffer(shape, "kept")}
        if mode == "train":
            buffers |= {name: Buffer(shape, "input") for name in ("inverse", "share", "spread")}
        return buffers

    def forward(self, o: Operands) -> Steps:
        """Bind the sum over the window, its power, and the product with x."""
        x, y, square, base = o.x, o.y, o.buffers["square"], o.buffers["base"]
        add_up = self._window_sum(square, base, *self._reach())
        scale, k, beta = self.alpha / self.size, self.k, self.beta

        def step() -> None:
            np.multiply(x, x, out=square)
            add_up()
            np.multiply(base, scale, out=base)
            np.add(base, k, out=base)
            np.power(base, -beta, out=square)
            np.multiply(x, square, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy base^-beta - 2 alpha beta / size x sum of dy x base^(-beta - 1) over the windows that hold x."""
        if o.dx is None:
            return Backward()
        x, dy, dx, base = o.x, o.dy, o.dx, o.buffers["base"]
        inverse, share, spread = (o.buffers[name] for name in ("inverse", "share", "spread"))
        add_up = self._window_sum(share, spread, *self._reach()[::-1])
        factor, beta = 2 * self.alpha * self.beta / self.size, self.beta

        def step() -> None:
            np.power(base, -beta, out=inverse)
            np.multiply(dy, inverse, out=dx)
            np.multiply(dx, x, out=share)
            np.divide(share, base, out=share)
            add_up()
            np.multiply(spread, x, out=spread)
            np.multiply(spread, factor, out=spread)
            np.subtract(dx, spread, out=dx)

        return Backward([step])

    def _reach(self) -> tuple[int, int]:
        """The numbers of channels before and behind the middle of a window."""
        return (self.size - 1) // 2, self.size // 2

    @staticmethod
    def _window_sum(source: Array, target: Array, before: int, behind: int) -> Step:
        channels = source.shape[1]
        moves = []
        for shift in range(-before, behind + 1):
            first, last = max(0, -shift), min(channels, channels - shift)
            if shift and first < last:
                moves.append((target[:, first:last], source[:, first + shift : last + shift]))

        def step() -> None:
            np.copyto(target, source)
            for place, neighbour in moves:
                np.add(place, neighbour, out=place)

        return step
