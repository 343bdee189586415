"""The part of the padding that an average counts, and how to count a window's elements in it."""

from __future__ import annotations

from cnnspec.graph import Node
from cnnspec.layers.pool import AvgPool2d
from cnnspec.shapes import Shape

Sides = tuple[int, int, int, int]


def counted_padding(node: Node) -> Sides:
    """Return the padding that an `avg_pool2d` counts, top, bottom, left, right: all but what `ceil_mode` adds."""
    layer = node.layer
    assert isinstance(layer, AvgPool2d)
    if not layer.count_include_pad:
        return (0, 0, 0, 0)
    return layer.but(ceil_mode=False).windows(node.input_shapes[0]).padding


def counting(shape: Shape, padding: Sides, counted: Sides) -> tuple[tuple[int, int], Sides]:
    """Return the size of an array of ones, and a margin of zeros, whose window means give each window's counted share.

    The ones stand for the map and its counted padding, the margin for padding that is not counted.
    """
    (_, rows, columns), (top, bottom, left, right) = shape, counted
    beyond = (padding[0] - top, padding[1] - bottom, padding[2] - left, padding[3] - right)
    return (rows + top + bottom, columns + left + right), beyond
