"""Functions of one number at a time other than the usual activations, and the affine map of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np

from cnnspec.fields import Number, Schema
from cnnspec.kernels import sums
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.activation import Activation
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Parameter, RowReads, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError


class Pointwise(Layer):
    """Base of functions whose slope is a function of x, so that backward reads the input."""

    retains = frozenset({"x"})
    in_place = True
    gradient_place = "dy"
    row_reads: ClassVar[RowReads | None] = "elementwise"

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array for the slopes, which lives while dx is computed."""
        return {"slope": Buffer(batch_shape(inputs[0], n), "input")} if mode == "train" else {}


@register("abs")
class Abs(Pointwise):
    """y = |x|; the derivative at 0 is 0."""

    non_negative = True

    def forward(self, o: Operands) -> Steps:
        """Bind y = |x| as one pass."""
        return [partial(np.absolute, o.x, o.y)]

    def backward(self, o: Operands) -> Backward:
        """dx = sign(x) dy."""
        if o.dx is None:
            return Backward()
        slope = o.buffers["slope"]
        return Backward([partial(np.sign, o.x, slope), partial(np.multiply, o.dy, slope, o.dx)])


@register("square")
class Square(Pointwise):
    """y = x^2."""

    non_negative = True

    def forward(self, o: Operands) -> Steps:
        """Bind y = x^2 as one pass."""
        return [partial(np.square, o.x, o.y)]

    def backward(self, o: Operands) -> Backward:
        """dx = 2 x dy."""
        if o.dx is None:
            return Backward()
        slope = o.buffers["slope"]
        return Backward([partial(np.multiply, o.x, 2, slope), partial(np.multiply, o.dy, slope, o.dx)])


@register("exp")
class Exp(Activation):
    """y = exp(x); above 88 it is infinite in float32, which `clip` before it prevents."""

    non_negative = True

    def forward(self, o: Operands) -> Steps:
        """Bind y = exp(x) as one pass."""
        return [partial(np.exp, o.x, o.y)]

    def derivative(self, o: Operands) -> Step:
        """dx = y dy."""
        return partial(np.multiply, o.dy, o.y, o.dx)


@register("clip")
class Clip(Activation):
    """y = min(max(x, min), max); the derivative is 1 between the two and 0 elsewhere, also at either."""

    min: Annotated[Number | None, "the lowest value; without it there is none"] = None
    max: Annotated[Number | None, "the highest value; without it there is none"] = None

    masks = ("inside", "below")

    @property
    def non_negative(self) -> bool:  # type: ignore[override]
        """Whether no number of y is below 0, which is so if `min` is not."""
        return self.min is not None and self.min >= 0

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError where the bounds leave nothing between them or there is none."""
        if self.min is None and self.max is None:
            raise ShapeError("expected a bound, min or max", help="for example min: 0")
        low, high = self._bounds
        if low >= high:
            raise ShapeError(f"expected max above min, got {high:g} and {low:g}", field="max")
        return inputs[0]

    @property
    def _bounds(self) -> tuple[float, float]:
        return (-np.inf if self.min is None else self.min, np.inf if self.max is None else self.max)

    def forward(self, o: Operands) -> Steps:
        """Bind both bounds as one pass."""
        return [partial(np.clip, o.x, *self._bounds, out=o.y)]

    def derivative(self, o: Operands) -> Step:
        """dx = dy where min < y < max."""
        y, dy, dx, inside, below = o.y, o.dy, o.dx, o.buffers["inside"], o.buffers["below"]
        low, high = (np.asarray(bound, y.dtype) for bound in self._bounds)  # in y's type

        def step() -> None:
            np.greater(y, low, out=inside)
            np.less(y, high, out=below)
            np.logical_and(inside, below, out=inside)
            np.multiply(dy, inside, out=dx)

        return step


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None or value == "none":
        return None
    return tuple(float(number) for number in value) if isinstance(value, (list, tuple)) else (float(value),)


_NUMBER: dict[str, Any] = {"type": "number"}
Coefficients = Annotated[
    tuple[float, ...] | None,
    Schema({"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}, {"enum": ["none"]}]}, _numbers),
]


@dataclass(frozen=True)
class Given:
    """The initializer that writes the values given in a spec."""

    values: tuple[float, ...]

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write one value for each channel, or a single value to all channels."""
        array[...] = self.values

    def check(self, shape: Shape) -> None:
        """Accept every shape: the layer has already counted the values."""


@register("scale_shift")
class ScaleShift(Layer):
    """y = scale_c x + shift_c for each channel or feature c, learned from the given numbers on, or fixed at them.

    Learned, scale and shift are parameters (c,); `none` leaves one out. A scale alone is ConvNeXt's layer scale
    (Touvron et al. 2021), fixed numbers bring an input to the range that a network was trained on.
    """

    scale: Annotated[Coefficients, "a number, one for each channel, or none"] = 1.0  # type: ignore[assignment]
    shift: Annotated[Coefficients, "a number, one for each channel, or none"] = 0.0  # type: ignore[assignment]
    learned: Annotated[bool, "whether training changes scale and shift"] = True

    in_place = True

    @property
    def retains(self) -> frozenset[str]:  # type: ignore[override]
        """Return {"x"} if scale is learned, as its gradient reads x."""
        return frozenset({"x"}) if self.learned and self.scale is not None else frozenset()

    @property
    def _given(self) -> dict[str, tuple[float, ...]]:
        return {name: numbers for name in ("scale", "shift") if (numbers := getattr(self, name)) is not None}

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError where there are neither as many numbers as channels nor one."""
        channels = inputs[0][0]
        for name, numbers in self._given.items():
            if len(numbers) not in (1, channels):
                raise ShapeError(f"expected 1 number or {channels}, got {len(numbers)}", field=name)
        if not self._given:
            raise ShapeError("expected a scale or a shift, got none of both", field="shift")
        return inputs[0]

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return scale (c,) and shift (c,), those that there are, if they are learned."""
        if not self.learned:
            return {}
        return {name: Parameter(inputs[0][:1], Given(numbers)) for name, numbers in self._given.items()}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return arrays for the product of x and dy and the sums of rows, of which the parameter gradients are made."""
        if mode == "infer" or not self.learned:
            return {}
        rows = Buffer((inputs[0][1] if len(inputs[0]) == 3 else 1, inputs[0][0]), "params")
        return {"partial": rows, **({"product": Buffer(batch_shape(inputs[0], n), "params")} if self.retains else {})}

    def _coefficient(self, o: Operands, name: str) -> Array | None:
        """The scale or shift as a column (c, 1), a parameter or fixed numbers; None if the spec says `none`."""
        if name not in self._given:
            return None
        channels = o.y.shape[1] if o.y.ndim == 4 else o.y.shape[0]
        fixed = np.broadcast_to(np.array(self._given[name], o.y.dtype), (channels,))
        return o.params.get(name, fixed)[:, None]

    def forward(self, o: Operands) -> Steps:
        """Bind the product with scale and the sum with shift, without those that are `none`."""
        x, y = sums.rows_of(o.x), sums.rows_of(o.y)
        scale, shift = self._coefficient(o, "scale"), self._coefficient(o, "shift")
        steps: list[Step] = []
        if scale is not None:
            steps, x = [partial(np.multiply, x, scale, y)], y
        if shift is not None:
            steps.append(partial(np.add, x, shift, y))
        return steps

    def backward(self, o: Operands) -> Backward:
        """dscale is the sum of x dy over all but the channels, dshift that of dy; dx = scale dy."""
        params: list[Step] = []
        if "scale" in o.grads:
            product = o.buffers["product"]
            params += [partial(np.multiply, o.x, o.dy, product)]
            params += [sums.channel_sum(product, o.grads["scale"], o.buffers["partial"])]
        if "shift" in o.grads:
            params.append(sums.channel_sum(o.dy, o.grads["shift"], o.buffers["partial"]))
        if o.dx is None:
            return Backward(params=params)
        dy, dx, scale = sums.rows_of(o.dy), sums.rows_of(o.dx), self._coefficient(o, "scale")
        if scale is None:
            return Backward([partial(np.copyto, dx, dy)], params)
        return Backward([partial(np.multiply, dy, scale, dx)], params)
