"""Gradients of large dense layers that are one product over the images of all shards, by rows of units.

A shard's own product would write as many elements with less arithmetic for each, and all shards' results would then
have to be added. The product has other bits than that sum, so the batch size alone decides which of them is made: in a
large batch each shard makes its own gradient, as ranks that share it would have to tell each other all x and dy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from cnnspec.graph import Node
from cnnspec.layers.base import Operands, Reduce
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.tasks import Task

# Rows of a batch gradient's task: fewer multiply slowly, more leave a worker idle at the end.
FEWEST_ROWS, MOST_ROWS = 32, 128
TASKS = 4  # that a batch gradient is divided into at least, where rows are enough
ALIGNED_ROWS = 16  # so that whatever is updated begins at a cache line

Range = tuple[int, int]  # from which to which element of the flat gradient


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows of each task of a batch gradient."""
    wanted = -(-rows // TASKS // ALIGNED_ROWS) * ALIGNED_ROWS
    height = min(max(wanted, FEWEST_ROWS), MOST_ROWS)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def ranges_by_rows(arrays: Arrays, node: Node) -> Iterator[tuple[slice, list[Range]]]:
    """The rows of each task of a node's batch gradient, and what it writes of the flat gradient."""
    names = arrays.partition.batch_gradients[node.name]
    starts = {name: start for name, (start, _) in arrays.weights.ranges(node).items()}
    widths = {name: prod(node.params[name].shape[1:]) for name in names}
    for rows in row_blocks(node.params[names[0]].shape[0]):
        yield (
            rows,
            [(starts[name] + rows.start * widths[name], starts[name] + rows.stop * widths[name]) for name in names],
        )


def whole_ranges(arrays: Arrays, node: Node) -> list[Range]:
    """All ranges of the flat gradient that one task each makes for a node and the whole batch."""
    return [written for _, ranges in ranges_by_rows(arrays, node) for written in ranges]


def row_task(arrays: Arrays, node: Node, rows: slice, after: Sequence[Task], lane: int | None = None) -> Task:
    """The task that makes some rows of a node's batch gradient, when x and dy of all images are there."""
    assert arrays.training is not None
    names = arrays.partition.batch_gradients[node.name]
    x, dy = arrays.collected(node)
    flat = arrays.weights.views(arrays.training.gradients[0], node)
    params = arrays.weights.views(arrays.weights.values, node)
    layer = node.layer.but(units=rows.stop - rows.start)
    grads = {name: flat[name][rows] for name in names}
    scratch = layer.scratch(*node.input_shapes, n=len(dy[0]), mode="train")
    o = Operands(
        inputs=(x,),
        output=dy[rows],  # which no backward pass of such a layer reads
        input_grads=(None,),
        output_grads=(dy[rows],),
        params={name: array[rows] for name, array in params.items()},
        grads=grads,
        buffers={name: np.empty(b.shape, b.dtype or x.dtype) for name, b in scratch.items()},
        batch=arrays.batch,
    )
    bound = layer.backward(o)
    return Task(
        node.name,
        "params",
        [item.after_sum if isinstance(item, Reduce) else item for item in (*bound.shared, *bound.params)],
        lane=lane,
        after=after,
        barrier=lane is not None,
        reads=[x, dy[rows]],
        writes=list(grads.values()),
        portion=(rows.stop - rows.start) / len(dy),
    )
