"""Activations: functions of one number at a time, and softmax over the channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from math import pi, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import NonNegativeNumber
from cnnspec.kernels import special_functions, sums
from cnnspec.kernels.elementwise import larger
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Program, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape


class Activation(Layer):
    """Base of non-decreasing activations whose slope is a function of y: y may take x's place, and dx that of dy.

    A subclass names the arrays of x's shape that its two steps use.
    """

    retains = frozenset({"y"})
    in_place = True
    gradient_place = "dy"
    increasing = True
    by_row = True
    forward_scratch: ClassVar[tuple[str, ...]] = ()
    backward_scratch: ClassVar[tuple[str, ...]] = ()
    masks: ClassVar[tuple[str, ...]] = ()

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Arrays of x's shape."""
        shape = batch_shape(inputs[0], n)
        found = {name: Buffer(shape) for name in self.forward_scratch}
        if mode == "train":
            found |= {name: Buffer(shape, "input") for name in self.backward_scratch}
            found |= {name: Buffer(shape, "input", bool) for name in self.masks}
        return found

    def backward(self, o: Operands) -> Backward:
        """One step, where anybody wants dx."""
        return Backward() if o.dx is None else Backward([self.derivative(o)])

    def derivative(self, o: Operands) -> Step:
        """Bind dx = dy f'(x)."""
        raise NotImplementedError


@register("relu")
class Relu(Activation):
    """y = max(x, 0); the derivative at 0 is 0. Source: Nair and Hinton (2010)."""

    non_negative = True
    rectifies = True
    masks = ("positive",)

    def forward(self, o: Operands) -> Program:
        """One pass."""
        shape = (-1,) if o.x.ndim == 2 or o.x.size <= sums.SMALL_MAP else (len(o.x), -1)
        x, y = o.x.reshape(shape), o.y.reshape(shape)
        return [larger(x, sums.zeros(x.shape[-1], str(x.dtype)), y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy where y > 0."""
        y, dy, dx, positive = o.y, o.dy, o.dx, o.buffers["positive"]

        def step() -> None:
            np.greater(y, 0, out=positive)
            np.multiply(dy, positive, out=dx)

        return step


@register("leaky_relu")
class LeakyRelu(Activation):
    """y = x for x > 0, else slope x. Source: Maas et al. (2013)."""

    negative_slope: Annotated[NonNegativeNumber, "slope below 0"] = 0.01

    forward_scratch = ("sloped",)
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Program:
        """max(x, slope x), or where the slope is above 1 the smaller of them."""
        x, y, sloped, slope = o.x, o.y, o.buffers["sloped"], self.negative_slope
        if slope == 0:  # 0 times infinity is no number
            return [partial(np.clip, x, 0, np.inf, out=y)]
        choose = np.maximum if slope <= 1 else np.minimum
        return [partial(np.multiply, x, slope, sloped), partial(choose, x, sloped, out=y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy for y > 0, else slope dy."""
        y, dy, dx, factor, slope = o.y, o.dy, o.dx, o.buffers["factor"], self.negative_slope

        def step() -> None:
            np.greater(y, 0, out=factor)
            np.multiply(factor, 1 - slope, out=factor)
            np.add(factor, slope, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


class Clipped(Activation):
    """Base of y = min(max(scale x + shift, 0), top)."""

    non_negative = True
    masks = ("inside", "below")
    scale: ClassVar[float] = 1
    shift: ClassVar[float] = 0
    top: ClassVar[float]

    def forward(self, o: Operands) -> Program:
        """Scale, shift and clip."""
        x, y, top = o.x, o.y, self.top
        line: list[Step] = []
        if self.scale != 1:
            line, x = [partial(np.multiply, x, self.scale, y), partial(np.add, y, self.shift, y)], y
        return [*line, partial(np.clip, x, 0, top, out=y)]

    def derivative(self, o: Operands) -> Step:
        """dx = scale dy where 0 < y < top."""
        y, dy, dx, inside, below = o.y, o.dy, o.dx, o.buffers["inside"], o.buffers["below"]
        scale, top = self.scale, self.top
        assert dx is not None

        def step() -> None:
            np.greater(y, 0, out=inside)
            np.less(y, top, out=below)
            np.logical_and(inside, below, out=inside)
            np.multiply(dy, inside, out=dx)
            if scale != 1:
                np.multiply(dx, scale, out=dx)

        return step


@register("relu6")
class Relu6(Clipped):
    """y = min(max(x, 0), 6). Source: Krizhevsky (2010)."""

    top = 6


@register("hard_sigmoid")
class HardSigmoid(Clipped):
    """y = min(max(x / 6 + 1/2, 0), 1), as Keras 3 and PyTorch have it. Source: Howard et al. (2019)."""

    scale, shift, top = 1 / 6, 0.5, 1


@register("sigmoid")
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    non_negative = True
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Program:
        """Without overflow at either end."""
        return [partial(special_functions.sigmoid, o.x, o.y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy y (1 - y)."""
        y, dy, dx, factor = o.y, o.dy, o.dx, o.buffers["factor"]

        def step() -> None:
            np.subtract(1, y, out=factor)
            np.multiply(factor, y, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


@register("tanh")
class Tanh(Activation):
    """y = tanh(x)."""

    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Program:
        """One pass."""
        return [partial(np.tanh, o.x, o.y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy (1 - y^2)."""
        y, dy, dx, factor = o.y, o.dy, o.dx, o.buffers["factor"]

        def step() -> None:
            np.multiply(y, y, out=factor)
            np.subtract(1, factor, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


class Gated(Layer):
    """y = x P(x): value and slope share the costly P, so forward writes both, and x need not stay."""

    in_place = True
    gradient_place = "dy"
    by_row = True

    @abstractmethod
    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """Write P(x) to `gate`, and P(x) + x P'(x) to `slope` where one is given; `work` is scratch."""

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """The slope, kept for backward."""
        shape = batch_shape(inputs[0], n)
        kept = {"slope": Buffer(shape, "kept")} if mode == "train" else {}
        return {"gate": Buffer(shape), "work": Buffer(shape)} | kept

    def forward(self, o: Operands) -> Program:
        """y = x P(x)."""
        x, y, gate, work, slope = o.x, o.y, o.buffers["gate"], o.buffers["work"], o.buffers.get("slope")

        def step() -> None:
            self.curve(x, gate, work, slope)
            np.multiply(x, gate, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """dx = dy times the slope."""
        return Backward() if o.dx is None else Backward([partial(np.multiply, o.dy, o.buffers["slope"], o.dx)])


@register("silu")
class Silu(Gated):
    """y = x / (1 + exp(-x)), also called swish. Source: Elfwing et al. (2017), Ramachandran et al. (2017)."""

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """P = sigmoid(x), the slope P (1 + x (1 - P))."""
        special_functions.sigmoid(x, gate)
        if slope is not None:
            np.subtract(1, gate, out=slope)
            np.multiply(slope, x, out=slope)
            np.add(slope, 1, out=slope)
            np.multiply(slope, gate, out=slope)


SATURATED = 24.0  # sigmoid(2u) of it is 0 or 1 to the last bit of float64


@register("gelu")
class Gelu(Gated):
    """y = x P(x), P the normal distribution function: (1 + erf(x / sqrt 2)) / 2.

    `approximate: tanh` takes P(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    approximate: Annotated[Literal["none", "tanh"], "the exact function, or its approximation by tanh"] = "none"

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """The distribution as the spec asks for it."""
        (_exact if self.approximate == "none" else _approximate)(x, gate, work, slope)


def _exact(x: Array, gate: Array, work: Array, slope: Array | None) -> None:
    special_functions.normal(x, gate, work if slope is None else slope, work)
    if slope is not None:
        np.multiply(slope, x, out=slope)
        np.add(slope, gate, out=slope)


def _approximate(x: Array, gate: Array, work: Array, slope: Array | None) -> None:
    # (1 + tanh(u)) / 2 is sigmoid(2u), and P' = 2 u' P (1 - P). Beyond SATURATED P is 0 or 1, and x^3 would overflow.
    rate = 2 * sqrt(2 / pi)
    np.clip(x, -SATURATED, SATURATED, out=gate)
    np.square(gate, out=work)
    if slope is not None:
        np.multiply(work, rate * 3 * 0.044715, out=slope)
        np.add(slope, rate, out=slope)
        np.multiply(slope, gate, out=slope)
    np.multiply(work, rate * 0.044715, out=work)
    np.add(work, rate, out=work)
    np.multiply(work, gate, out=gate)
    special_functions.sigmoid(gate, gate)
    if slope is not None:
        np.multiply(slope, gate, out=slope)
        np.subtract(1, gate, out=work)
        np.multiply(slope, work, out=slope)
        np.add(slope, gate, out=slope)


@register("softmax")
class Softmax(Layer):
    """y_c = exp(x_c) / sum_k exp(x_k) over the channels of a map or the features of a vector."""

    non_negative = True
    probabilities = True
    retains = frozenset({"y"})
    in_place = True
    gradient_place = "dy"

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """One number for each position, and in backward one for each input."""
        shape = batch_shape(inputs[0], n)
        row = batch_shape((1, *inputs[0][1:]), n)
        found = {"row": Buffer(row)}
        if mode == "train":
            found |= {"weighted": Buffer(shape, "input"), "row_again": Buffer(row, "input")}
        return found

    def forward(self, o: Operands) -> Program:
        """Shifted by the largest, so that nothing overflows."""
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
