"""The padding that an average counts, and what counts it."""

from __future__ import annotations

from cnnspec.graph import Node
from cnnspec.layers.pool import AvgPool2d
from cnnspec.shapes import Shape

Sides = tuple[int, int, int, int]


def counted_padding(node: Node) -> Sides:
    """Rows above and below, columns left and right that an `avg_pool2d` counts: all but what `ceil_mode` adds."""
    layer = node.layer
    assert isinstance(layer, AvgPool2d)
    if not layer.count_include_pad:
        return (0, 0, 0, 0)
    return layer.but(ceil_mode=False).windows(node.input_shapes[0]).padding


def counting(shape: Shape, padding: Sides, counted: Sides) -> tuple[tuple[int, int], Sides]:
    """Return rows and columns of ones whose windows count the elements of a map and its counted padding, and a margin.

    The margin is the padding that is not counted: zeros around the ones.
    """
    (_, rows, columns), (top, bottom, left, right) = shape, counted
    beyond = (padding[0] - top, padding[1] - bottom, padding[2] - left, padding[3] - right)
    return (rows + top + bottom, columns + left + right), beyond
