"""Layers that change the height and width of a map by adding margins or cutting them off."""

from __future__ import annotations

from typing import Annotated, Any

from cnnspec.fields import Schema
from cnnspec.kernels.elementwise import clear, copy
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Backward, Layer, Operands, Program
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
    """The part of a map within margins, and the four margins."""
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

    def forward(self, o: Operands) -> Program:
        """Bind the copy of the map, and zeros around it: the array holds other values between two steps."""
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


@register("crop2d")
class Crop2d(Layer):
    """The map without its margins."""

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

    def forward(self, o: Operands) -> Program:
        """Bind the copy of the inside of the map."""
        inside, _ = _inner(o.x, self.cropping)
        return [copy(inside, o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy inside the margins, 0 in them."""
        if o.dx is None:
            return Backward()
        inside, margins = _inner(o.dx, self.cropping)
        return Backward([copy(o.dy, inside), *clear(margins)])
