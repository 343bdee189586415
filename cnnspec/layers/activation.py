"""Activations: non-decreasing functions of one number at a time, whose slope is a function of their value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import NonNegativeNumber, PositiveNumber
from cnnspec.kernels import special_functions, sums
from cnnspec.kernels.elementwise import maximum_of
from cnnspec.kernels.step import Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape


class Activation(Layer):
    """Base of activations whose slope is a function of y, so that y may lie in the place of x, and dx in that of dy.

    A subclass names the arrays of x's shape that its two steps use.
    """

    retains = frozenset({"y"})
    in_place = True
    gradient_place = "dy"
    increasing = True
    row_reads = "elementwise"
    forward_scratch: ClassVar[tuple[str, ...]] = ()
    backward_scratch: ClassVar[tuple[str, ...]] = ()
    masks: ClassVar[tuple[str, ...]] = ()

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the arrays of x's shape that the subclass names."""
        shape = batch_shape(inputs[0], n)
        buffers = {name: Buffer(shape) for name in self.forward_scratch}
        if mode == "train":
            buffers |= {name: Buffer(shape, "input") for name in self.backward_scratch}
            buffers |= {name: Buffer(shape, "input", bool) for name in self.masks}
        return buffers

    def backward(self, o: Operands) -> Backward:
        """Return the step that computes dx; no step if dx is not needed."""
        return Backward() if o.dx is None else Backward([self.derivative(o)])

    def derivative(self, o: Operands) -> Step:
        """Bind dx = dy f'(x), as a function of y."""
        raise NotImplementedError


@register("relu")
class Relu(Activation):
    """y = max(x, 0); the derivative at 0 is 0. Source: Nair and Hinton (2010)."""

    non_negative = True
    rectifies = True
    masks = ("positive",)

    def forward(self, o: Operands) -> Steps:
        """Bind y = max(x, 0) as one pass over long rows."""
        shape = (-1,) if o.x.ndim == 2 or o.x.size <= sums.SMALL_MAP else (len(o.x), -1)
        x, y = o.x.reshape(shape), o.y.reshape(shape)
        return [maximum_of(x, sums.zeros(x.shape[-1], str(x.dtype)), y)]

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

    def forward(self, o: Operands) -> Steps:
        """Bind y = max(x, slope x), or min(x, slope x) for a slope above 1."""
        x, y, sloped, slope = o.x, o.y, o.buffers["sloped"], self.negative_slope
        if slope == 0:  # 0 times infinity is not a number
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

    def forward(self, o: Operands) -> Steps:
        """Bind scaling, shift and clipping, without a scaling by 1 or a shift by 0."""
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

    bounds = (0.0, 1.0)
    scale, shift, top = 1 / 6, 0.5, 1


@register("sigmoid")
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    bounds = (0.0, 1.0)
    non_negative = True
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Steps:
        """Bind a form that overflows at neither end."""
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

    bounds = (-1.0, 1.0)
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Steps:
        """Bind y = tanh(x) as one pass."""
        return [partial(np.tanh, o.x, o.y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy (1 - y^2)."""
        y, dy, dx, factor = o.y, o.dy, o.dx, o.buffers["factor"]

        def step() -> None:
            np.multiply(y, y, out=factor)
            np.subtract(1, factor, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


class ExponentialLinear(Activation):
    """Base of y = scale x for x > 0, else scale alpha (exp(x) - 1)."""

    forward_scratch = ("below", "work")
    backward_scratch = ("factor", "above")

    def constants(self) -> tuple[float, float]:
        """Return scale and alpha."""
        raise NotImplementedError

    def forward(self, o: Operands) -> Steps:
        """Bind the sum of the part above 0 and the part below it."""
        x, y, below, work = o.x, o.y, o.buffers["below"], o.buffers["work"]
        scale, alpha = self.constants()

        def step() -> None:
            special_functions.exponential_below(x, below, work)
            np.multiply(below, scale * alpha, out=below)
            np.clip(x, 0, np.inf, out=y)
            if scale != 1:
                np.multiply(y, scale, out=y)
            np.add(y, below, out=y)

        return [step]

    def derivative(self, o: Operands) -> Step:
        """dx = scale dy for y > 0, else (y + scale alpha) dy."""
        y, dy, dx, factor, above = o.y, o.dy, o.dx, o.buffers["factor"], o.buffers["above"]
        scale, alpha = self.constants()

        def step() -> None:
            np.clip(y, -np.inf, 0, out=factor)
            np.add(factor, scale * alpha, out=factor)
            if alpha != 1:
                np.greater(y, 0, out=above)
                np.multiply(above, scale * (1 - alpha), out=above)
                np.add(factor, above, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


@register("elu")
class Elu(ExponentialLinear):
    """y = x for x > 0, else alpha (exp(x) - 1). Source: Clevert et al. (2015)."""

    alpha: Annotated[PositiveNumber, "how far below 0 it falls"] = 1.0

    def constants(self) -> tuple[float, float]:
        """Return 1 and the spec's alpha."""
        return 1.0, self.alpha


@register("selu")
class Selu(ExponentialLinear):
    """y = 1.0507 x for x > 0, else 1.0507 * 1.6733 (exp(x) - 1). Source: Klambauer et al. (2017)."""

    def constants(self) -> tuple[float, float]:
        """Return scale and alpha, chosen so that a mean of 0 and a variance of 1 persist from layer to layer."""
        return 1.0507009873554805, 1.6732632423543772


@register("softplus")
class Softplus(Activation):
    """y = log(1 + exp(x)). Source: Dugas et al. (2001)."""

    non_negative = True
    forward_scratch = ("rounded", "work")
    backward_scratch = ("factor", "work_again")

    def forward(self, o: Operands) -> Steps:
        """Bind a form that overflows at neither end."""
        return [partial(special_functions.softplus, o.x, o.y, o.buffers["rounded"], o.buffers["work"])]

    def derivative(self, o: Operands) -> Step:
        """dx = dy (1 - exp(-y))."""
        y, dy, dx, factor, work = o.y, o.dy, o.dx, o.buffers["factor"], o.buffers["work_again"]

        def step() -> None:
            np.negative(y, out=factor)
            special_functions.exponential_below(factor, factor, work)
            np.multiply(factor, dy, out=factor)
            np.negative(factor, out=dx)

        return step
