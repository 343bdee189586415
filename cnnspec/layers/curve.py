"""Further activations: gates, exponentials, and a learned slope."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated

import numpy as np

from cnnspec.fields import PositiveNumber
from cnnspec.kernels import special_functions, sums
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.activation import Activation, Gated
from cnnspec.layers.base import (
    Backward,
    InitializerField,
    Layer,
    Mode,
    Operands,
    Parameter,
    Program,
    batch_shape,
)
from cnnspec.registry import register
from cnnspec.shapes import Shape

ONE = 20  # above it tanh(log(1 + exp(x))) is 1 in float64


@register("hard_swish")
class HardSwish(Gated):
    """y = x min(max(x / 6 + 1/2, 0), 1). Source: Howard et al. (2019)."""

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """P = min(max(x / 6 + 1/2, 0), 1), of slope 1/6 between -3 and 3."""
        np.multiply(x, 1 / 6, out=gate)
        np.add(gate, 0.5, out=gate)
        np.clip(gate, 0, 1, out=gate)
        if slope is not None:
            np.absolute(x, out=work)
            np.less(work, 3, out=slope)
            np.multiply(slope, 1 / 6, out=slope)
            np.multiply(slope, x, out=slope)
            np.add(slope, gate, out=slope)


class ExponentialLinear(Activation):
    """Base of y = scale x for x > 0, else scale alpha (exp(x) - 1)."""

    forward_scratch = ("below", "work")
    backward_scratch = ("factor", "above")

    def constants(self) -> tuple[float, float]:
        """Scale and alpha."""
        raise NotImplementedError

    def forward(self, o: Operands) -> Program:
        """Both parts."""
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
        """1 and the spec's."""
        return 1.0, self.alpha


@register("selu")
class Selu(ExponentialLinear):
    """y = 1.0507 x for x > 0, else 1.0507 * 1.6733 (exp(x) - 1). Source: Klambauer et al. (2017)."""

    def constants(self) -> tuple[float, float]:
        """Those that keep mean 0 and variance 1."""
        return 1.0507009873554805, 1.6732632423543772


@register("softplus")
class Softplus(Activation):
    """y = log(1 + exp(x)). Source: Dugas et al. (2001)."""

    non_negative = True
    forward_scratch = ("rounded", "work")
    backward_scratch = ("factor", "work_again")

    def forward(self, o: Operands) -> Program:
        """Without overflow at either end."""
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


@register("mish")
class Mish(Gated):
    """y = x tanh(log(1 + exp(x))). Source: Misra (2019)."""

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """With e = exp(x) and n = e (e + 2): P = n / (n + 2), P' = 4 e (e + 1) / (n + 2)^2."""
        np.clip(x, -np.inf, ONE, out=work)
        np.exp(work, out=work)
        np.add(work, 2, out=gate)
        np.multiply(gate, work, out=gate)
        if slope is not None:
            np.add(work, 1, out=slope)
            np.multiply(slope, work, out=slope)
        np.add(gate, 2, out=work)
        np.divide(gate, work, out=gate)
        if slope is not None:
            np.divide(slope, work, out=slope)
            np.divide(slope, work, out=slope)
            np.multiply(slope, 4, out=slope)
            np.clip(x, -np.inf, ONE, out=work)  # where e was clipped P' is not 0, and would not outweigh x
            np.multiply(slope, work, out=slope)
            np.add(slope, gate, out=slope)


@register("prelu")
class Prelu(Layer):
    """y = max(x, 0) + weight min(x, 0), one weight for each channel. Source: He et al. (2015)."""

    weight_init: Annotated[InitializerField, "how the slopes below 0 start"] = MappingProxyType(
        {"type": "constant", "value": 0.25}
    )

    retains = frozenset({"x"})

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """weight (c,)."""
        return {"weight": Parameter((inputs[0][0],), self.weight_init)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """The negative part; in backward what passes below 0, its products with dy, and their sums by row."""
        shape = batch_shape(inputs[0], n)
        rows = (inputs[0][1] if len(inputs[0]) == 3 else 1, inputs[0][0])
        backward = {"below": Buffer(shape, "input")}
        backward |= {"product": Buffer(shape, "params"), "partial": Buffer(rows, "params")}
        return {"negative": Buffer(shape)} | (backward if mode == "train" else {})

    def forward(self, o: Operands) -> Program:
        """Both parts."""
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
