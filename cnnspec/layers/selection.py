"""Layers that select or reorder along the axes of a map."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np

from cnnspec.fields import Declaration, NonNegativeInt, PositiveInt, Schema
from cnnspec.kernels.elementwise import clear, copy
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Backward, Layer, Operands, Steps, map_shape, to_public
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map

Order = Annotated[
    tuple[int, ...],
    Schema({"type": "array", "items": {"enum": [0, 1, 2]}, "minItems": 3, "maxItems": 3}, lambda value: tuple(value)),
]


@register("permute")
class Permute(Layer):
    """Reorders the axes of a map: axis k of y is axis order[k] of x, counted 0 channels, 1 rows, 2 columns."""

    order: Annotated[Order, "which axis of x comes first, second and third"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the map's lengths in the new order; ShapeError where an axis is missing."""
        shape = expect_map(inputs[0], self.type_name)
        if sorted(self.order) != [0, 1, 2]:
            raise ShapeError(f"expected each of the axes 0, 1 and 2 once, got {list(self.order)}", field="order")
        return tuple(shape[axis] for axis in self.order)

    def forward(self, o: Operands) -> Steps:
        """Bind one copy between views of equal axes."""
        return [copy(self._permuted(o.x), to_public(o.y))]

    def backward(self, o: Operands) -> Backward:
        """Bind the copy in the other direction."""
        if o.dx is None:
            return Backward()
        return Backward([copy(to_public(o.dy), self._permuted(o.dx))])

    def _permuted(self, array: Array) -> Array:
        return to_public(array).transpose(0, *(axis + 1 for axis in self.order))


class Range(Declaration):
    """Positions start, start + step, ... below stop; or one of several parts of equal length."""

    kind: ClassVar[str] = "section"

    start: Annotated[NonNegativeInt, "the first position"] = 0
    stop: Annotated[PositiveInt | None, "the position behind the last one; the end unless given"] = None
    step: Annotated[PositiveInt, "from one position to the next"] = 1
    part: Annotated[PositiveInt | None, "which of equal parts, 1 the first, instead of start and stop"] = None
    of: Annotated[PositiveInt | None, "into how many parts the axis is cut"] = None  # type: ignore[assignment]

    def within(self, length: int, field: str) -> slice:
        """Return the range as a slice of an axis; ShapeError if it exceeds the axis, or parts would be unequal."""
        if self.part is not None or self.of is not None:
            return self._part(length, field)
        stop = length if self.stop is None else self.stop
        if stop > length or self.start >= stop:
            raise ShapeError(f"expected a range within 0 to {length}, got {self.start} to {stop}", field=field)
        return slice(self.start, stop, self.step)

    def _part(self, length: int, field: str) -> slice:
        if self.part is None or self.of is None or self.start or self.stop is not None or self.step != 1:
            raise ShapeError(
                "expected part and of together, without start, stop and step",
                field=field,
                help="write {part: 1, of: 2} for the first half",
            )
        if self.part > self.of or length % self.of:
            problem = f"part {self.part} of {self.of}" if self.part > self.of else f"{self.of} parts of {length}"
            raise ShapeError(
                f"expected a part that there is, of parts of equal length, got {problem}",
                field=field,
                help=f"parts are counted from 1, and their number divides {length}",
            )
        size = length // self.of
        return slice((self.part - 1) * size, self.part * size, 1)


class Selection(Layer):
    """Base of layers that copy a part of their input."""

    def forward(self, o: Operands) -> Steps:
        """Bind the copy of the selected part."""
        return [copy(self._part(o.x), o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy at the selected positions, 0 elsewhere."""
        if o.dx is None:
            return Backward()
        return Backward([*clear([o.dx]), copy(o.dy, self._part(o.dx))])

    def _part(self, array: Array) -> Array:
        """A view of the selected part, of an input or of its gradient."""
        raise NotImplementedError


@register("slice")
class Slice(Selection):
    """A part of a map: y[c,i,j] = x[c0 + c sc, i0 + i si, j0 + j sj].

    Each axis takes a range, as in `rows: {start: 1, stop: 9, step: 2}`, counted from 0 and without the stop; or one of
    several equal parts, as in `channels: {part: 2, of: 2}`, the second half.
    """

    channels: Annotated[Range, "which channels"] = Range()
    rows: Annotated[Range, "which rows"] = Range()
    columns: Annotated[Range, "which columns"] = Range()

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return how many channels, rows and columns are selected."""
        return tuple(len(range(*part.indices(1 << 62))) for part in self.slices(inputs[0]))

    def slices(self, shape: Shape) -> tuple[slice, slice, slice]:
        """Return the channels, rows and columns of a map (c, h, w) that are selected; ShapeError outside of it."""
        channels, height, width = expect_map(shape, self.type_name)
        return (
            self.channels.within(channels, "channels"),
            self.rows.within(height, "rows"),
            self.columns.within(width, "columns"),
        )

    def _part(self, array: Array) -> Array:
        channels, rows, columns = self.slices(map_shape(array))
        part: Any = array[rows, channels, columns]
        return np.asarray(part)
