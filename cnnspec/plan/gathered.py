"""Gradients that are products over all images of a batch: made once for all shards, by rows, not summed over them.

A shard's own product would be as wide and as high, but only as deep as it has images: little arithmetic for a large
array to write, and another pass to add the arrays of all shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cnnspec.graph import Graph, Node
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Operands, batch_shape
from cnnspec.shapes import Shape, size

LARGE = 1 << 14  # elements of a parameter from which on this pays
MOST_ROWS, FEWEST_ROWS = 128, 32  # of a task: fewer are multiplied more slowly, more leave members idle at the end
TASKS = 4  # at least, where rows are enough
ALIGNED_ROWS = 16  # so that whatever is updated begins at a cache line


def gathered(graph: Graph) -> Mapping[str, str]:
    """The parameter of each node whose gradient all shards make together: a large one, used by that node alone."""
    sharing = graph.sharing
    return {
        node.name: node.layer.gathers
        for node in graph.nodes
        if node.layer.gathers and node.trainable and node.name not in sharing
        if size(node.params[node.layer.gathers].shape) >= LARGE
    }


def gathered_shapes(node: Node, batch: int) -> Mapping[str, Shape]:
    """The arrays that shards write their columns of x and dy to."""
    return {"x": batch_shape(node.input_shapes[0], batch), "dy": batch_shape(node.shape, batch)}


@dataclass(frozen=True)
class Gathered:
    """One such gradient: what it is made of, of all images, and where it goes."""

    node: Node
    parameter: str
    x: Array
    dy: Array
    gradient: Array

    def entry(self, o: Operands, images: slice) -> Step:
        """A shard's columns."""
        return in_turn([copy(o.x, self.x[:, images]), copy(o.dy, self.dy[:, images])])

    def tasks(self) -> Iterator[tuple[slice, Step]]:
        """The elements of the gradient, flat, that each task makes."""
        rows, width = len(self.gradient), self.gradient[0].size
        wanted = -(-rows // TASKS // ALIGNED_ROWS) * ALIGNED_ROWS
        height = min(max(wanted, FEWEST_ROWS), MOST_ROWS)
        for first in range(0, rows, height):
            part = slice(first, min(first + height, rows))
            steps = self.node.layer.gathered(self.dy[part], self.x, self.gradient[part])
            yield slice(part.start * width, part.stop * width), in_turn(steps)
