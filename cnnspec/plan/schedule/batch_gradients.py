"""Gradients of large dense layers that are one product over the images of all shards, by rows of units.

If each shard makes a product of its own, every product writes a whole gradient with little arithmetic for each element,
and the gradients of all shards have to be added. The rounding differs between the two ways, so the batch size alone
decides: in a large batch each shard makes its own gradient, as ranks would have to send each other all x and dy.
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
TASKS = 4  # the fewest tasks of a batch gradient that has enough rows
ALIGNED_ROWS = 16  # a multiple of this, so that every chunk to update begins at a cache line

Range = tuple[int, int]  # the first element in the flat gradient, and one past the last


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows of each task of a batch gradient."""
    wanted = -(-rows // TASKS // ALIGNED_ROWS) * ALIGNED_ROWS
    height = min(max(wanted, FEWEST_ROWS), MOST_ROWS)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def ranges_by_rows(arrays: Arrays, node: Node) -> Iterator[tuple[slice, list[Range]]]:
    """The rows of each task of a node's batch gradient, and the ranges of the flat gradient that it writes."""
    names = arrays.partition.batch_gradients[node.name]
    starts = {name: start for name, (start, _) in arrays.weights.ranges(node).items()}
    widths = {name: prod(node.params[name].shape[1:]) for name in names}
    for rows in row_blocks(node.params[names[0]].shape[0]):
        yield (
            rows,
            [(starts[name] + rows.start * widths[name], starts[name] + rows.stop * widths[name]) for name in names],
        )


def whole_ranges(arrays: Arrays, node: Node) -> list[Range]:
    """The ranges of the flat gradient that a node's batch gradients fill."""
    return [written for _, ranges in ranges_by_rows(arrays, node) for written in ranges]


def row_task(arrays: Arrays, node: Node, rows: slice, after: Sequence[Task], lane: int | None = None) -> Task:
    """The task that computes some rows of a node's batch gradient, after x and dy of all images are collected."""
    assert arrays.training is not None
    names = arrays.partition.batch_gradients[node.name]
    x, dy = arrays.batch_operands(node)
    flat = arrays.weights.views(arrays.training.gradients[0], node)
    params = arrays.weights.views(arrays.weights.values, node)
    layer = node.layer.but(units=rows.stop - rows.start)
    grads = {name: flat[name][rows] for name in names}
    scratch = layer.scratch(*node.input_shapes, n=len(dy[0]), mode="train")
    o = Operands(
        inputs=(x,),
        output=dy[rows],  # a dense layer's backward pass does not read its output
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
