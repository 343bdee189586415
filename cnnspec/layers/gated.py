"""Gated activations: x times a function of x that goes from 0 to 1."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from math import pi, sqrt
from typing import Annotated, Literal

import numpy as np

from cnnspec.kernels import special_functions
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape

ONE = 20  # above it tanh(log(1 + exp(x))) is 1 in float64


class Gated(Layer):
    """Base of y = x P(x): forward computes P and keeps the slope of y, so that backward reads neither x nor y."""

    in_place = True
    gradient_place = "dy"
    row_reads = "elementwise"

    @abstractmethod
    def curve(self, x: Array, factor: Array, work: Array, slope: Array | None) -> None:
        """Write P(x) to `factor`, and P(x) + x P'(x) to `slope` unless it is None; `work` is scratch."""

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return two scratch arrays of x's shape, and in training the slope, which is kept for backward."""
        shape = batch_shape(inputs[0], n)
        slope = {"slope": Buffer(shape, "kept")} if mode == "train" else {}
        return {"factor": Buffer(shape), "work": Buffer(shape)} | slope

    def forward(self, o: Operands) -> Steps:
        """y = x P(x)."""
        x, y, factor, work, slope = o.x, o.y, o.buffers["factor"], o.buffers["work"], o.buffers.get("slope")

        def step() -> None:
            self.curve(x, factor, work, slope)
            np.multiply(x, factor, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy times the slope that forward kept."""
        return Backward() if o.dx is None else Backward([partial(np.multiply, o.dy, o.buffers["slope"], o.dx)])


@register("silu")
class Silu(Gated):
    """y = x / (1 + exp(-x)), also called swish. Source: Elfwing et al. (2017), Ramachandran et al. (2017)."""

    def curve(self, x: Array, factor: Array, work: Array, slope: Array | None) -> None:
        """Write P = sigmoid(x) and the slope P (1 + x (1 - P))."""
        special_functions.sigmoid(x, factor)
        if slope is not None:
            np.subtract(1, factor, out=slope)
            np.multiply(slope, x, out=slope)
            np.add(slope, 1, out=slope)
            np.multiply(slope, factor, out=slope)


SATURATED = 24.0  # sigmoid(2u) of it is 0 or 1 to the last bit of float64


@register("gelu")
class Gelu(Gated):
    """y = x P(x), P the normal distribution function: (1 + erf(x / sqrt 2)) / 2.

    `approximate: tanh` takes P(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    approximate: Annotated[Literal["none", "tanh"], "the exact function, or its approximation by tanh"] = "none"

    def curve(self, x: Array, factor: Array, work: Array, slope: Array | None) -> None:
        """Write the exact distribution and density, or their approximation, as the spec says."""
        (_exact if self.approximate == "none" else _approximate)(x, factor, work, slope)


def _exact(x: Array, factor: Array, work: Array, slope: Array | None) -> None:
    special_functions.normal(x, factor, work if slope is None else slope, work)
    if slope is not None:
        np.multiply(slope, x, out=slope)
        np.add(slope, factor, out=slope)


def _approximate(x: Array, factor: Array, work: Array, slope: Array | None) -> None:
    # (1 + tanh(u)) / 2 is sigmoid(2u), and P' = 2 u' P (1 - P). Beyond SATURATED P is 0 or 1, and x^3 would overflow.
    rate = 2 * sqrt(2 / pi)
    np.clip(x, -SATURATED, SATURATED, out=factor)
    np.square(factor, out=work)
    if slope is not None:
        np.multiply(work, rate * 3 * 0.044715, out=slope)
        np.add(slope, rate, out=slope)
        np.multiply(slope, factor, out=slope)
    np.multiply(work, rate * 0.044715, out=work)
    np.add(work, rate, out=work)
    np.multiply(work, factor, out=factor)
    special_functions.sigmoid(factor, factor)
    if slope is not None:
        np.multiply(slope, factor, out=slope)
        np.subtract(1, factor, out=work)
        np.multiply(slope, work, out=slope)
        np.add(slope, factor, out=slope)


@register("hard_swish")
class HardSwish(Gated):
    """y = x min(max(x / 6 + 1/2, 0), 1). Source: Howard et al. (2019)."""

    def curve(self, x: Array, factor: Array, work: Array, slope: Array | None) -> None:
        """Write P = min(max(x / 6 + 1/2, 0), 1), whose slope is 1/6 between -3 and 3."""
        np.multiply(x, 1 / 6, out=factor)
        np.add(factor, 0.5, out=factor)
        np.clip(factor, 0, 1, out=factor)
        if slope is not None:
            np.absolute(x, out=work)
            np.less(work, 3, out=slope)
            np.multiply(slope, 1 / 6, out=slope)
            np.multiply(slope, x, out=slope)
            np.add(slope, factor, out=slope)


@register("mish")
class Mish(Gated):
    """y = x tanh(log(1 + exp(x))). Source: Misra (2019)."""

    def curve(self, x: Array, factor: Array, work: Array, slope: Array | None) -> None:
        """Write P = n / (n + 2) and P' = 4 e (e + 1) / (n + 2)^2, with e = exp(x) and n = e (e + 2)."""
        np.clip(x, -np.inf, ONE, out=work)
        np.exp(work, out=work)
        np.add(work, 2, out=factor)
        np.multiply(factor, work, out=factor)
        if slope is not None:
            np.add(work, 1, out=slope)
            np.multiply(slope, work, out=slope)
        np.add(factor, 2, out=work)
        np.divide(factor, work, out=factor)
        if slope is not None:
            np.divide(slope, work, out=slope)
            np.divide(slope, work, out=slope)
            np.multiply(slope, 4, out=slope)
            np.clip(x, -np.inf, ONE, out=work)  # where e is clipped, P' is not 0: times a large x it would count
            np.multiply(slope, work, out=slope)
            np.add(slope, factor, out=slope)
