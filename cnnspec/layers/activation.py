"""Activations: functions of one number at a time, and softmax over the channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import NonNegativeNumber
from cnnspec.kernels.erf import bind_erf
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.sums import rows_of, zeros
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Program, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """Base of the activations; a subclass names the arrays of x's shape that its two steps use."""

    forward_scratch: ClassVar[tuple[str, ...]] = ()
    backward_scratch: ClassVar[tuple[str, ...]] = ()
    masks: ClassVar[tuple[str, ...]] = ()

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Arrays of x's shape."""
        shape = batch_shape(inputs[0], n)
        found = {name: Buffer(shape) for name in self.forward_scratch}
        if mode == "train":
            found |= {name: Buffer(shape, "backward") for name in self.backward_scratch}
            found |= {name: Buffer(shape, "backward", bool) for name in self.masks}
        return found

    def backward(self, o: Operands) -> Backward:
        """One step, where anybody wants dx."""
        return Backward() if o.dx is None else Backward([self.derivative(o)])

    def derivative(self, o: Operands) -> Step:
        """Bind dx = dy f'(x)."""
        raise NotImplementedError


@register("relu")
@dataclass(frozen=True, kw_only=True)
class Relu(Activation):
    """y = max(x, 0); the derivative at 0 is 0. Source: Nair and Hinton (2010)."""

    retains = frozenset({"y"})
    in_place = True
    increasing = True
    masks = ("positive",)

    def forward(self, o: Operands) -> Program:
        """One pass."""
        x, y = rows_of(o.x), rows_of(o.y)
        nothing = zeros(x.shape[-1], str(x.dtype))

        def step() -> None:
            np.maximum(x, nothing, out=y)

        return [step]

    def derivative(self, o: Operands) -> Step:
        """dx = dy where y > 0."""
        y, dy, dx, positive = o.y, o.dy, o.dx, o.buffers["positive"]

        def step() -> None:
            np.greater(y, 0, out=positive)
            np.multiply(dy, positive, out=dx)

        return step


@register("leaky_relu")
@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Activation):
    """y = x for x > 0, else slope x. Source: Maas et al. (2013)."""

    negative_slope: Annotated[NonNegativeNumber, "slope below 0"] = 0.01

    retains = frozenset({"x"})
    forward_scratch = ("sloped",)
    backward_scratch = ("factor",)
    masks = ("positive",)

    def forward(self, o: Operands) -> Program:
        """max(x, 0) + slope min(x, 0)."""
        x, y, sloped, slope = o.x, o.y, o.buffers["sloped"], self.negative_slope

        def step() -> None:
            np.minimum(x, 0, out=sloped)
            np.multiply(sloped, slope, out=sloped)
            np.maximum(x, 0, out=y)
            np.add(y, sloped, out=y)

        return [step]

    def derivative(self, o: Operands) -> Step:
        """dx = dy for x > 0, else slope dy."""
        x, dy, dx, slope = o.x, o.dy, o.dx, self.negative_slope
        positive, factor = o.buffers["positive"], o.buffers["factor"]

        def step() -> None:
            np.greater(x, 0, out=positive)
            np.multiply(positive, 1 - slope, out=factor, dtype=factor.dtype)
            np.add(factor, slope, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


@register("sigmoid")
@dataclass(frozen=True, kw_only=True)
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    retains = frozenset({"y"})
    in_place = True
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Program:
        """exp(-x) may overflow to infinity, of which 1/(1 + infinity) = 0 is right."""
        return [_sigmoid(o)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy y (1 - y)."""
        y, dy, dx, factor = o.y, o.dy, o.dx, o.buffers["factor"]

        def step() -> None:
            np.subtract(1, y, out=factor)
            np.multiply(factor, y, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


def _sigmoid(o: Operands) -> Step:
    x, y = o.x, o.y

    def step() -> None:
        np.negative(x, out=y)
        np.exp(y, out=y)
        np.add(y, 1, out=y)
        np.divide(1, y, out=y)

    return step


@register("tanh")
@dataclass(frozen=True, kw_only=True)
class Tanh(Activation):
    """y = tanh(x)."""

    retains = frozenset({"y"})
    in_place = True
    backward_scratch = ("factor",)

    def forward(self, o: Operands) -> Program:
        """One pass."""
        x, y = o.x, o.y

        def step() -> None:
            np.tanh(x, out=y)

        return [step]

    def derivative(self, o: Operands) -> Step:
        """dx = dy (1 - y^2)."""
        y, dy, dx, factor = o.y, o.dy, o.dx, o.buffers["factor"]

        def step() -> None:
            np.multiply(y, y, out=factor)
            np.subtract(1, factor, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


@register("silu")
@dataclass(frozen=True, kw_only=True)
class Silu(Activation):
    """y = x / (1 + exp(-x)), also called swish. Source: Elfwing et al. (2017), Ramachandran et al. (2017)."""

    retains = frozenset({"x"})
    backward_scratch = ("gate", "factor")

    def forward(self, o: Operands) -> Program:
        """x times its sigmoid."""
        x, y, gate = o.x, o.y, _sigmoid(o)

        def step() -> None:
            gate()
            np.multiply(y, x, out=y)

        return [step]

    def derivative(self, o: Operands) -> Step:
        """dx = dy s (1 + x (1 - s)), s = sigmoid(x)."""
        x, dy, dx, gate, factor = o.x, o.dy, o.dx, o.buffers["gate"], o.buffers["factor"]

        def step() -> None:
            np.negative(x, out=gate)
            np.exp(gate, out=gate)
            np.add(gate, 1, out=gate)
            np.divide(1, gate, out=gate)
            np.subtract(1, gate, out=factor)
            np.multiply(factor, x, out=factor)
            np.add(factor, 1, out=factor)
            np.multiply(factor, gate, out=factor)
            np.multiply(dy, factor, out=dx)

        return step


@register("gelu")
@dataclass(frozen=True, kw_only=True)
class Gelu(Activation):
    """y = x F(x), F the normal distribution function: (1 + erf(x / sqrt 2)) / 2.

    `approximate: tanh` takes F(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    approximate: Annotated[Literal["none", "tanh"], "the exact function, or its approximation by tanh"] = "none"

    retains = frozenset({"x"})
    forward_scratch = ("argument", "t", "u", "b", "c")
    backward_scratch = ("bell", "distribution", "argument_again", "t_again", "u_again", "b_again", "c_again")

    def forward(self, o: Operands) -> Program:
        """x F(x)."""
        x, y, argument = o.x, o.y, o.buffers["argument"]
        b = o.buffers
        distribution = self._distribution(x, y, argument, (b["t"], b["u"], b["b"], b["c"]))

        def step() -> None:
            distribution()
            np.multiply(y, x, out=y)

        return [step]

    def _distribution(self, x: Array, out: Array, argument: Array, work: tuple[Array, ...]) -> Step:
        """Bind out = F(x)."""
        if self.approximate == "tanh":

            def approximate() -> None:
                np.multiply(x, x, out=out)
                np.multiply(out, 0.044715, out=out)
                np.add(out, 1, out=out)
                np.multiply(out, x, out=out)
                np.multiply(out, sqrt(2 / pi), out=out)
                np.tanh(out, out=out)
                np.add(out, 1, out=out)
                np.multiply(out, 0.5, out=out)

            return approximate
        erf = bind_erf(argument, out, (work[0], work[1], work[2], work[3]))

        def exact() -> None:
            np.multiply(x, sqrt(0.5), out=argument)
            erf()
            np.add(out, 1, out=out)
            np.multiply(out, 0.5, out=out)

        return exact

    def derivative(self, o: Operands) -> Step:
        """dx = dy (F(x) + x F'(x))."""
        x, dy, dx, bell, value = o.x, o.dy, o.dx, o.buffers["bell"], o.buffers["distribution"]
        b = o.buffers
        work = (b["t_again"], b["u_again"], b["b_again"], b["c_again"])
        distribution = self._distribution(x, value, b["argument_again"], work)

        def exact_bell() -> None:
            np.multiply(x, x, out=bell)
            np.multiply(bell, -0.5, out=bell)
            np.exp(bell, out=bell)
            np.multiply(bell, 1 / sqrt(2 * pi), out=bell)

        def tanh_bell() -> None:  # F' = 2 F (1 - F) sqrt(2/pi) (1 + 3 * 0.044715 x^2)
            np.multiply(x, x, out=bell)
            np.multiply(bell, 3 * 0.044715, out=bell)
            np.add(bell, 1, out=bell)
            np.multiply(bell, 2 * sqrt(2 / pi), out=bell)
            np.multiply(bell, value, out=bell)
            np.subtract(1, value, out=work[0])
            np.multiply(bell, work[0], out=bell)

        slope = tanh_bell if self.approximate == "tanh" else exact_bell

        def step() -> None:
            distribution()
            slope()
            np.multiply(bell, x, out=bell)
            np.add(bell, value, out=bell)
            np.multiply(dy, bell, out=dx)

        return step


@register("softmax")
@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """y_c = exp(x_c) / sum_k exp(x_k) over the channels of a map or the features of a vector."""

    retains = frozenset({"y"})

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """One number for each position, and in backward one for each input."""
        shape = batch_shape(inputs[0], n)
        row = batch_shape((1, *inputs[0][1:]), n)
        found = {"row": Buffer(row)}
        if mode == "train":
            found |= {"weighted": Buffer(shape, "backward"), "row_again": Buffer(row, "backward")}
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
