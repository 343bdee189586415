"""Further activations: straight pieces, exponentials, and a learned slope."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated

import numpy as np

from cnnspec.fields import PositiveNumber
from cnnspec.kernels import curves, sums
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.activation import Gated
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


class Curve(Layer):
    """Base of non-decreasing activations that write value and slope at once, so that x need not stay."""

    in_place = True
    gradient_place = "dy"
    increasing = True
    by_row = True

    @abstractmethod
    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """Write f'(x) to `slope` where one is given, then f(x) to y, which may be x; `work` is scratch."""

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """The slope, kept for backward."""
        shape = batch_shape(inputs[0], n)
        return {"work": Buffer(shape)} | ({"slope": Buffer(shape, "kept")} if mode == "train" else {})

    def forward(self, o: Operands) -> Program:
        """y = f(x)."""
        return [partial(self.curve, o.x, o.y, o.buffers["work"], o.buffers.get("slope"))]

    def backward(self, o: Operands) -> Backward:
        """dx = dy f'(x)."""
        return Backward() if o.dx is None else Backward([partial(np.multiply, o.dy, o.buffers["slope"], o.dx)])


@register("relu6")
class Relu6(Curve):
    """y = min(max(x, 0), 6). Source: Krizhevsky (2010)."""

    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """Slope 1 between 0 and 6."""
        if slope is not None:
            np.greater(x, 0, out=slope)
            np.less(x, 6, out=work)
            np.multiply(slope, work, out=slope)
        np.maximum(x, 0, out=y)
        np.minimum(y, 6, out=y)


def _hard_sigmoid(x: Array, out: Array) -> None:
    np.multiply(x, 1 / 6, out=out)
    np.add(out, 0.5, out=out)
    np.maximum(out, 0, out=out)
    np.minimum(out, 1, out=out)


def _hard_slope(x: Array, work: Array, slope: Array) -> None:
    np.absolute(x, out=work)
    np.less(work, 3, out=slope)
    np.multiply(slope, 1 / 6, out=slope)


@register("hard_sigmoid")
class HardSigmoid(Curve):
    """y = min(max(x / 6 + 1/2, 0), 1), as Keras 3 and PyTorch have it. Source: Howard et al. (2019)."""

    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """Slope 1/6 between -3 and 3."""
        if slope is not None:
            _hard_slope(x, work, slope)
        _hard_sigmoid(x, y)


@register("hard_swish")
class HardSwish(Gated):
    """y = x min(max(x / 6 + 1/2, 0), 1). Source: Howard et al. (2019)."""

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """P = hard_sigmoid(x)."""
        _hard_sigmoid(x, gate)
        if slope is not None:
            _hard_slope(x, work, slope)
            np.multiply(slope, x, out=slope)
            np.add(slope, gate, out=slope)


def _exponential_linear(x: Array, y: Array, work: Array, slope: Array | None, alpha: float, scale: float) -> None:
    # scale x above 0, scale alpha (exp(x) - 1) below
    np.minimum(x, 0, out=work)
    np.expm1(work, out=work)
    np.multiply(work, scale * alpha, out=work)
    if slope is not None:
        np.greater(x, 0, out=slope)
        np.multiply(slope, scale * (1 - alpha), out=slope)
        np.add(slope, work, out=slope)
        np.add(slope, scale * alpha, out=slope)
    np.maximum(x, 0, out=y)
    np.multiply(y, scale, out=y)
    np.add(y, work, out=y)


@register("elu")
class Elu(Curve):
    """y = x for x > 0, else alpha (exp(x) - 1). Source: Clevert et al. (2015)."""

    alpha: Annotated[PositiveNumber, "how far below 0 it falls"] = 1.0

    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """Slope 1 above 0, alpha exp(x) below."""
        _exponential_linear(x, y, work, slope, self.alpha, 1.0)


@register("selu")
class Selu(Curve):
    """y = 1.0507 x for x > 0, else 1.0507 * 1.6733 (exp(x) - 1). Source: Klambauer et al. (2017)."""

    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """The scale and alpha that keep mean 0 and variance 1."""
        _exponential_linear(x, y, work, slope, 1.6732632423543772, 1.0507009873554805)


def _softplus(x: Array, out: Array, work: Array) -> None:
    np.absolute(x, out=work)
    np.negative(work, out=work)
    np.exp(work, out=work)
    np.log1p(work, out=work)
    np.maximum(x, 0, out=out)
    np.add(out, work, out=out)


@register("softplus")
class Softplus(Curve):
    """y = log(1 + exp(x)). Source: Dugas et al. (2001)."""

    def curve(self, x: Array, y: Array, work: Array, slope: Array | None) -> None:
        """Slope curves.sigmoid(x)."""
        if slope is not None:
            curves.sigmoid(x, slope)
        _softplus(x, y, work)


@register("mish")
class Mish(Gated):
    """y = x tanh(log(1 + exp(x))). Source: Misra (2019)."""

    def curve(self, x: Array, gate: Array, work: Array, slope: Array | None) -> None:
        """P = tanh(softplus(x)), P' = (1 - P^2) curves.sigmoid(x)."""
        _softplus(x, gate, work)
        np.tanh(gate, out=gate)
        if slope is not None:
            np.square(gate, out=work)
            np.subtract(1, work, out=work)
            curves.sigmoid(x, slope)
            np.multiply(slope, work, out=slope)
            np.multiply(slope, x, out=slope)
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
        """The negative part, and its products with dy."""
        shape = batch_shape(inputs[0], n)
        rows = (inputs[0][1] if len(inputs[0]) == 3 else 1, inputs[0][0])
        backward = {"product": Buffer(shape, "backward"), "partial": Buffer(rows, "backward")}
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
            np.minimum(x, 0, out=negative)
            np.multiply(negative, weight[:, None], out=negative)
            np.maximum(x, 0, out=y)
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
            np.minimum(x, 0, out=product)
            np.multiply(product, dy, out=product)

        if o.dx is None:
            return Backward(params=[multiply, add_up])
        dx = sums.rows_of(o.dx)

        def step() -> None:
            np.greater(x, 0, out=product)
            np.multiply(dy, product, out=dx)
            np.subtract(dy, dx, out=product)
            np.multiply(product, weight[:, None], out=product)
            np.add(dx, product, out=dx)

        return Backward(input=[step], params=[multiply, add_up])
