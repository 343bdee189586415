"""Layers with several inputs, and the fork of a value with several readers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, RowReads, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, size, text


class Repeating(Layer):
    """Base of merges whose inputs are repeated along axes of length 1; a vector (c,) acts as a map (c, 1, 1).

    So a map can be merged with a vector, a 1x1 map or a map of one channel, in any order.
    """

    arity: ClassVar[tuple[int, int | None]] = (1, None)
    row_reads: ClassVar[RowReads | None] = "elementwise"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the longest length of each axis; ShapeError where another one is neither that nor 1."""
        rank = max(len(shape) for shape in inputs)
        full = [shape if len(shape) == rank else (*shape, 1, 1) for shape in inputs]
        output = tuple(max(lengths) for lengths in zip(*full, strict=True))
        for position, shape in enumerate(full):
            if any(length not in (1, longest) for length, longest in zip(shape, output, strict=True)):
                raise ShapeError(
                    f"expected axes of length 1 or of {text(output)}, got {text(inputs[position])} "
                    f"as input {position + 1}",
                    field="from",
                    help="beside a map fits a map of its shape, a vector or a 1x1 map with as many channels, "
                    "or a map of one channel",
                )
        return output


@register("add")
class Add(Repeating):
    """y = x_1 + x_2 + ..., all of one shape; with `broadcast` axes of length 1 are repeated.

    Repeating has to be asked for: where a residual's shortcut has one channel and its body more, shapes that differ
    are a mistake.
    """

    broadcast: Annotated[bool, "repeat vectors over a map, and axes of length 1"] = False

    in_place: ClassVar[bool] = True

    @property
    def passes_on(self) -> frozenset[str]:  # type: ignore[override]
        """Return {"dy"}, as every dx is dy, unless inputs are repeated."""
        return frozenset() if self.broadcast else frozenset({"dy"})

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape that all inputs have; ShapeError where one has another."""
        if self.broadcast:
            return super().infer_shape(*inputs)
        for position, shape in enumerate(inputs):
            if shape != inputs[0]:
                raise ShapeError(
                    f"expected inputs of one shape, {text(inputs[0])}, got {text(shape)} as input {position + 1}",
                    field="from",
                    help="bring the inputs to one shape, for example with a 1x1 conv2d"
                    if len(shape) == len(inputs[0])
                    else "make a vector of the map with global_avg_pool2d, or a map of the vector with reshape; "
                    "broadcast: true adds a vector to every pixel",
                )
        return inputs[0]

    def forward(self, o: Operands) -> Steps:
        """Bind one addition for each further input."""
        (first, *others), y = [_as_map(x, o.y) for x in o.inputs], o.y

        def step() -> None:
            left = first
            for other in others:
                np.add(left, other, out=y)
                left = y
            if not others:
                np.copyto(y, first)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = dy, summed over repeated axes; no copy is needed if dx_i lies in the place of dy."""
        return Backward(input=[_summed(o.dy, _as_map(dx, o.y)) for dx in o.input_grads if dx is not None])


@register("subtract")
class Subtract(Repeating):
    """y = x_1 - x_2; axes of length 1 are repeated, and a vector acts as a 1x1 map."""

    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = True

    def forward(self, o: Operands) -> Steps:
        """Bind the difference as one pass."""
        first, second = (_as_map(x, o.y) for x in o.inputs)
        return [partial(np.subtract, first, second, o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_1 = dy and dx_2 = -dy, both summed over repeated axes."""
        first, second = (None if dx is None else _as_map(dx, o.y) for dx in o.input_grads)
        steps: list[Step] = []
        if first is not None:
            steps.append(_summed(o.dy, first))
        if second is not None:
            steps += [_summed(o.dy, second), partial(np.negative, second, second)]
        return Backward(input=steps)


class Extreme(Repeating):
    """Base of y = the largest or the smallest of x_1, x_2, ...; the gradient goes to the first of equals."""

    retains: ClassVar[frozenset[str]] = frozenset({"x", "y"})
    chosen: ClassVar[np.ufunc]

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return masks of the places where an input is chosen and where none is chosen yet, and the product with dy."""
        shape = batch_shape(self.infer_shape(*inputs), n)
        masks = {name: Buffer(shape, "input", bool) for name in ("equal", "open")}
        return {**masks, "product": Buffer(shape, "input")} if mode == "train" else {}

    def forward(self, o: Operands) -> Steps:
        """Bind one comparison for each further input."""
        first, *others = (_as_map(x, o.y) for x in o.inputs)
        steps: list[Step] = [partial(np.copyto, o.y, first)]
        return steps + [partial(self.chosen, o.y, other, out=(o.y,)) for other in others]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = dy where y equals x_i and no earlier input, summed over repeated axes."""
        y, dy, equal, still, product = o.y, o.dy, *(o.buffers[name] for name in ("equal", "open", "product"))
        steps: list[Step] = [partial(still.fill, True)]
        for x, dx in zip((_as_map(x, y) for x in o.inputs), o.input_grads, strict=True):
            steps += [partial(np.equal, x, y, equal), partial(np.logical_and, equal, still, equal)]
            if dx is not None:
                steps += [partial(np.multiply, dy, equal, product), _summed(product, _as_map(dx, y))]
            steps.append(partial(np.greater, still, equal, still))
        return Backward(input=steps)


@register("maximum")
class Maximum(Extreme):
    """y = max(x_1, x_2, ...), element by element; axes of length 1 are repeated, and a vector acts as a 1x1 map.

    The gradient goes to the first of equals. Source: Goodfellow et al., "Maxout networks" (2013).
    """

    chosen: ClassVar[np.ufunc] = np.maximum


@register("minimum")
class Minimum(Extreme):
    """y = min(x_1, x_2, ...), element by element; axes of length 1 are repeated, and a vector acts as a 1x1 map.

    The gradient goes to the first of equals.
    """

    chosen: ClassVar[np.ufunc] = np.minimum


@register("multiply")
class Multiply(Repeating):
    """y = x_1 * x_2 * ...; axes of length 1 are repeated, and a vector acts as a 1x1 map (gates: Hu et al. 2018)."""

    retains: ClassVar[frozenset[str]] = frozenset({"x"})

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the product that is summed over repeated axes in backward."""
        return {"product": Buffer(batch_shape(self.infer_shape(*inputs), n), "input")} if mode == "train" else {}

    def forward(self, o: Operands) -> Steps:
        """Bind one multiplication for each further input."""
        (first, *others), y = [_as_map(x, o.y) for x in o.inputs], o.y

        def step() -> None:
            np.copyto(y, first)
            for other in others:
                np.multiply(y, other, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = dy times the other inputs, summed over the axes along which x_i was repeated."""
        inputs = [_as_map(x, o.y) for x in o.inputs]
        steps: list[Step] = []
        for position, dx in enumerate(o.input_grads):
            if dx is not None:
                others = inputs[:position] + inputs[position + 1 :]
                steps.append(_factor_gradient(o.dy, others, o.buffers["product"], _as_map(dx, o.y)))
        return Backward(input=steps)


class Stretches(Layer):
    """Base of layers whose output holds all inputs, one behind the other."""

    arity: ClassVar[tuple[int, int | None]] = (1, None)

    def forward(self, o: Operands) -> Steps:
        """Bind one copy for each input."""
        return [copy(x, part) for x, part in zip(o.inputs, self.parts(o.y, o), strict=True)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = the input's stretch of dy."""
        pairs = zip(o.input_grads, self.parts(o.dy, o), strict=True)
        return Backward(input=[copy(part, dx) for dx, part in pairs if dx is not None])

    @staticmethod
    @abstractmethod
    def parts(joined: Array, o: Operands) -> list[Array]:
        """Return the stretch of each input in an array of the output's shape, as a view of the input's shape."""


@register("concat")
class Concat(Stretches):
    """The channels of all maps, or the features of all vectors, one input after the other."""

    row_reads: ClassVar[RowReads | None] = "elementwise"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the sum of the channels or features; ShapeError where heights or widths differ."""
        for position, shape in enumerate(inputs):
            if shape[1:] != inputs[0][1:]:
                axes = f"maps of {text(inputs[0][1:])}" if len(inputs[0]) == 3 else "vectors"
                raise ShapeError(
                    f"expected {axes} to join over channels, got {text(shape)} as input {position + 1}",
                    field="from",
                    help="bring the inputs to one height and width",
                )
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])

    @staticmethod
    def parts(joined: Array, o: Operands) -> list[Array]:
        """Return the stretch of each input in an array of the output's shape."""
        axis = 1 if joined.ndim == 4 else 0
        ends = np.cumsum([x.shape[axis] for x in o.inputs])
        return np.split(joined, ends[:-1].tolist(), axis=axis)


class Join(Stretches):
    """All inputs in one vector, each as a plan holds it, for losses that read several. Passes add it, specs do not."""

    type_name = "join"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the number of all elements."""
        return (sum(map(size, inputs)),)

    @staticmethod
    def parts(joined: Array, o: Operands) -> list[Array]:
        """Return the stretch of each input, in its shape."""
        ends = np.cumsum([x.size // x.shape[-1] for x in o.inputs])
        return [part.reshape(x.shape) for x, part in zip(o.inputs, np.split(joined, ends[:-1].tolist()), strict=True)]


class Fork(Layer):
    """One value for several readers: y = x, and dx is the sum of their gradients. Passes add it, specs do not."""

    gradient_place: ClassVar[Literal["x", "dy"] | None] = "dy"
    passes_on: ClassVar[frozenset[str]] = frozenset({"x"})
    row_reads: ClassVar[RowReads | None] = "elementwise"
    type_name: ClassVar[str] = "fork"

    def forward(self, o: Operands) -> Steps:
        """Bind a copy, which is left out if y lies in the place of x."""
        return [copy(o.x, o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy_1 + dy_2 + ..."""
        if o.dx is None:
            return Backward()
        first, *others = o.output_grads
        dx = o.dx

        def step() -> None:
            np.copyto(dx, first)
            for other in others:
                np.add(dx, other, out=dx)

        return Backward(input=[step])


def _as_map(array: Array, like: Array) -> Array:
    return array if array.ndim == like.ndim else array.reshape(1, array.shape[0], 1, array.shape[1])


def _summed(source: Array, dx: Array) -> Step:
    """dx = source, summed over the axes along which an input was repeated."""
    axes = tuple(axis for axis in range(dx.ndim) if dx.shape[axis] != source.shape[axis])
    return partial(np.add.reduce, source, axes, None, dx, True) if axes else copy(source, dx)


def _factor_gradient(dy: Array, others: list[Array], product: Array, dx: Array) -> Step:
    sum_up = _summed(product, dx)

    def step() -> None:
        np.copyto(product, dy)
        for other in others:
            np.multiply(product, other, out=product)
        sum_up()

    return step
