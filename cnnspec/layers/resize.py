"""Layers that change the height and width of a map by adding margins or cutting them off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from cnnspec.fields import Schema
from cnnspec.kernels.elementwise import accumulate, clear, copy
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map

_LENGTH: dict[str, Any] = {"type": "integer", "minimum": 0}


def _four(value: Any) -> tuple[int, int, int, int]:
    if isinstance(value, int):
        return (value, value, value, value)
    if len(value) == 2:
        return (value[0], value[0], value[1], value[1])
    top, bottom, left, right = value
    return (top, bottom, left, right)


Margins = Annotated[
    tuple[int, int, int, int],
    Schema(
        {
            "anyOf": [
                _LENGTH,
                {"type": "array", "items": _LENGTH, "minItems": 2, "maxItems": 2},
                {"type": "array", "items": _LENGTH, "minItems": 4, "maxItems": 4},
            ]
        },
        _four,
    ),
]

Between = Annotated[
    tuple[int, int], Schema({"type": "array", "items": _LENGTH, "minItems": 2, "maxItems": 2}, lambda v: (v[0], v[1]))
]


def _inner(array: Array, margins: tuple[int, int, int, int]) -> tuple[Array, list[Array]]:
    """Views of a map with margins: the part inside, and the four margins."""
    top, bottom, left, right = margins
    h, _, w, _ = array.shape
    rows = array[top : h - bottom]
    return rows[:, :, left : w - right], [
        array[:top],
        array[h - bottom :],
        rows[:, :, :left],
        rows[:, :, w - right :],
    ]


@register("zero_pad2d")
class ZeroPad2d(Layer):
    """Zeros around the map, and with `channels` also whole channels of zeros before and behind the map's own."""

    padding: Annotated[Margins, "n, [vertical, horizontal] or [top, bottom, left, right]"] = (1, 1, 1, 1)
    channels: Annotated[Between, "channels before and behind"] = (0, 0)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (before + c + behind, top + h + bottom, left + w + right)."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        top, bottom, left, right = self.padding
        return (sum(self.channels) + channels, top + height + bottom, left + width + right)

    def forward(self, o: Operands) -> Steps:
        """Bind the copy of the map and zeros around it, in each step: other arrays may share the memory of y."""
        inside, margins = self._inside(o.y)
        return [copy(o.x, inside), *clear(margins)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = the inside of dy."""
        if o.dx is None:
            return Backward()
        inside, _ = self._inside(o.dy)
        return Backward([copy(inside, o.dx)])

    def _inside(self, array: Array) -> tuple[Array, list[Array]]:
        before, behind = self.channels
        end = array.shape[1] - behind
        inside, margins = _inner(array[:, before:end], self.padding)
        return inside, [margin for margin in (*margins, array[:, :before], array[:, end:]) if margin.size]


@register("pad2d")
class Pad2d(Layer):
    """The map with margins of its own pixels: (c, h, w) -> (c, top + h + bottom, left + w + right).

    `reflect` mirrors it about its first and last pixels (c b | a b c | b a), `replicate` repeats those (a a | a b c |
    c c), `circular` begins again (b c | a b c | a b). A convolution with such a margin is this layer and `padding:
    valid` behind it; zeros around a map are `zero_pad2d`, or the padding of a convolution itself.
    """

    padding: Annotated[Margins, "n, [vertical, horizontal] or [top, bottom, left, right]"] = (1, 1, 1, 1)
    mode: Annotated[Literal["reflect", "replicate", "circular"], "which pixels the margins are made of"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the map's shape with its margins; ShapeError where the map has too few pixels to fill them."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        top, bottom, left, right = self.padding
        for pads, length, axis in (((top, bottom), height, "rows"), ((left, right), width, "columns")):
            most_pads = {"reflect": length - 1, "replicate": max(pads), "circular": length}[self.mode]
            if max(pads) > most_pads:
                raise ShapeError(
                    f"expected margins of at most {most_pads} {axis} for {self.mode} on a map of {length} {axis}, "
                    f"got {max(pads)}",
                    field="padding",
                )
        return (channels, top + height + bottom, left + width + right)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array for the gradient of y, in which margins are added to the pixels that they repeat."""
        shape = batch_shape(self.infer_shape(*inputs), n)
        return {"folded": Buffer(shape, "input")} if mode == "train" else {}

    def forward(self, o: Operands) -> Steps:
        """Bind the copy of the map, then of columns to the left and right, then of whole rows above and below."""
        inside, _ = _inner(o.y, self.padding)
        columns = [copy(o.x[:, :, source], margin) for margin, source in self._columns(o.y, o.x.shape[2])]
        rows = [copy(o.y[source], o.y[margin]) for margin, source in self._rows(len(o.x))]
        return [copy(o.x, inside), *columns, *rows]

    def backward(self, o: Operands) -> Backward:
        """Bind the addition of margin rows to the rows they repeat, dx = the inside, and the same for columns in dx."""
        if o.dx is None:
            return Backward()
        folded, dx = o.buffers["folded"], o.dx
        inside, _ = _inner(folded, self.padding)
        steps = [copy(o.dy, folded)]
        steps += [accumulate(folded[source], folded[margin]) for margin, source in self._rows(len(dx))]
        steps.append(copy(inside, dx))
        steps += [accumulate(dx[:, :, source], margin) for margin, source in self._columns(folded, dx.shape[2])]
        return Backward(steps)

    def _columns(self, array: Array, width: int) -> list[tuple[Array, int]]:
        """Pairs: a view of a column in the left or right margin, and the number of the map's column that it repeats."""
        top, bottom, left, right = self.padding
        body = array[top : len(array) - bottom]
        return [(body[:, :, left + place], source) for place, source in self._sources(left, width, right)]

    def _rows(self, height: int) -> list[tuple[int, int]]:
        """Pairs of row numbers in the map with margins: a row of a margin, and the row that it repeats."""
        top, bottom, _, _ = self.padding
        return [(top + place, top + source) for place, source in self._sources(top, height, bottom)]

    def _sources(self, before: int, length: int, after: int) -> list[tuple[int, int]]:
        """Pairs of places along an axis, counted from the map's first: a place in a margin, and the one it repeats."""
        last = length - 1
        source: Callable[[int], int] = {
            "reflect": lambda place: -place if place < 0 else 2 * last - place,
            "replicate": lambda place: 0 if place < 0 else last,
            "circular": lambda place: place % length,
        }[self.mode]
        return [(place, source(place)) for place in (*range(-before, 0), *range(length, length + after))]


@register("crop2d")
class Crop2d(Layer):
    """Cuts margins off a map."""

    cropping: Annotated[Margins, "n, [vertical, horizontal] or [top, bottom, left, right]"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c, h - top - bottom, w - left - right); ShapeError where nothing is left."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        top, bottom, left, right = self.cropping
        if top + bottom >= height or left + right >= width:
            raise ShapeError(
                f"expected margins smaller than the {height}x{width} map, got {top + bottom} rows and "
                f"{left + right} columns",
                field="cropping",
            )
        return (channels, height - top - bottom, width - left - right)

    def forward(self, o: Operands) -> Steps:
        """Bind the copy of the inside of the map."""
        inside, _ = _inner(o.x, self.cropping)
        return [copy(inside, o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy inside the margins, 0 in them."""
        if o.dx is None:
            return Backward()
        inside, margins = _inner(o.dx, self.cropping)
        return Backward([copy(o.dy, inside), *clear(margins)])
