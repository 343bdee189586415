"""Layers with several inputs, and the fork that lets one value have several readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Program, RowReads, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


@register("add")
class Add(Layer):
    """y = x_1 + x_2 + ..., all of one shape."""

    arity: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = True
    passes_on: ClassVar[frozenset[str]] = frozenset({"dy"})
    row_reads: ClassVar[RowReads | None] = "elementwise"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape that all inputs have; ShapeError where one has another."""
        for position, shape in enumerate(inputs):
            if shape != inputs[0]:
                raise ShapeError(
                    f"expected inputs of one shape, {text(inputs[0])}, got {text(shape)} as input {position + 1}",
                    field="from",
                    help="bring the inputs to one shape, for example with a 1x1 conv2d"
                    if len(shape) == len(inputs[0])
                    else "make a vector of the map with global_avg_pool2d, or a map of the vector with reshape",
                )
        return inputs[0]

    def forward(self, o: Operands) -> Program:
        """Bind one addition for each further input."""
        (first, *others), y = o.inputs, o.y

        def step() -> None:
            left = first
            for other in others:
                np.add(left, other, out=y)
                left = y
            if not others:
                np.copyto(y, first)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = dy: copies, which are left out where dx_i lies in the place of dy."""
        return Backward(input=[copy(o.dy, dx) for dx in o.input_grads if dx is not None])


@register("concat")
class Concat(Layer):
    """The channels of all maps, or the features of all vectors, one input after the other."""

    arity: ClassVar[tuple[int, int | None]] = (1, None)
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

    def forward(self, o: Operands) -> Program:
        """Bind one copy for each input."""
        return [copy(x, part) for x, part in zip(o.inputs, self.parts(o.y, o), strict=True)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx_i = the input's stretch of dy."""
        pairs = zip(o.input_grads, self.parts(o.dy, o), strict=True)
        return Backward(input=[copy(part, dx) for dx, part in pairs if dx is not None])

    @staticmethod
    def parts(joined: Array, o: Operands) -> list[Array]:
        """Return the stretch of each input in an array of the output's shape."""
        axis = 1 if joined.ndim == 4 else 0
        ends = np.cumsum([x.shape[axis] for x in o.inputs])
        return np.split(joined, ends[:-1].tolist(), axis=axis)


@register("multiply")
class Multiply(Layer):
    """y = x_1 * x_2 * ...; axes of length 1 are repeated, and a vector acts as a 1x1 map (gates: Hu et al. 2018)."""

    arity: ClassVar[tuple[int, int | None]] = (1, None)
    retains: ClassVar[frozenset[str]] = frozenset({"x"})
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
                    help="a gate is a vector or a 1x1 map with as many channels as the map",
                )
        return output

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the product that is summed over repeated axes in backward."""
        return {"product": Buffer(batch_shape(self.infer_shape(*inputs), n), "input")} if mode == "train" else {}

    def forward(self, o: Operands) -> Program:
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


class Fork(Layer):
    """One value for several readers: y = x, and dx is the sum of their gradients. Passes add it, specs do not."""

    gradient_place: ClassVar[Literal["x", "dy"] | None] = "dy"
    passes_on: ClassVar[frozenset[str]] = frozenset({"x"})
    row_reads: ClassVar[RowReads | None] = "elementwise"
    type_name: ClassVar[str] = "fork"

    def forward(self, o: Operands) -> Program:
        """Bind a copy, which is left out where y lies in the place of x."""
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


def _factor_gradient(dy: Array, others: list[Array], product: Array, dx: Array) -> Step:
    axes = tuple(axis for axis in range(dx.ndim) if dx.shape[axis] != dy.shape[axis])

    def step() -> None:
        np.copyto(product, dy)
        for other in others:
            np.multiply(product, other, out=product)
        if axes:
            np.add.reduce(product, axis=axes, keepdims=True, out=dx)
        else:
            np.copyto(dx, product)

    return step
