"""The padding that an average counts."""

from __future__ import annotations

from cnnspec.graph import Node
from cnnspec.layers.pool import AvgPool2d

Sides = tuple[int, int, int, int]


def counted_padding(node: Node) -> Sides:
    """Rows above and below, columns left and right that an `avg_pool2d` counts: all but what `ceil_mode` adds."""
    layer = node.layer
    assert isinstance(layer, AvgPool2d)
    if not layer.count_include_pad:
        return (0, 0, 0, 0)
    return layer.but(ceil_mode=False).windows(node.input_shapes[0]).padding
