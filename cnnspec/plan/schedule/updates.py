"""The tasks that use the gradients of a pass: sum over shards, clipping, accumulation, update of the weights.

Each chunk of the flat arrays is one task, or two if the norm of the whole gradient is needed in between. It waits
only for the tasks that write its gradient or read its weights, so that updates run beside the backward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np

from cnnspec.graph import Node
from cnnspec.kernels.step import Array, Step
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.loss_check import LossCheck
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.plan.state import Chunk, Training
from cnnspec.workers import shared

Gradients = Literal["sum", "accumulate", "update"]  # the last thing that a training pass does
Elements = tuple[int, int, Task]  # a task, after the first element that it touches and one past the last


class Updates:
    """The tasks at the end of a training pass; `checked` is the task that has checked the losses."""

    def __init__(
        self,
        arrays: Arrays,
        training: Training,
        check: LossCheck,
        checked: Task,
        writers: Sequence[Elements],
        readers: Sequence[Elements],
        shards: int,
    ) -> None:
        self.arrays, self.training, self.check, self.checked = arrays, training, check, checked
        self.writers, self.readers = writers, readers  # tasks that write the gradient, and that read the weights
        self.shards = shards  # the number of shards whose gradients are still to be added

    def add_to(self, tasks: TaskGraph, gradients: Gradients, apart: Collection[str]) -> list[Elements]:
        """Add a task for each chunk; nodes `apart` have chunks of their own. Return the tasks that come last."""
        boundaries = {end for start, stop, _ in self.writers for end in (start, stop)}
        chunks = [chunk for chunk in self.training.chunks(boundaries, apart) if self._waits_for(chunk, self.writers)]
        clips = gradients == "update" and self.training.clip.norm is not None and bool(chunks)
        squares = shared((len(chunks),), np.float64)
        made: list[Elements] = []
        for index, chunk in enumerate(chunks):
            steps = self._steps(chunk, gradients, squares[index : index + 1] if clips else None)
            after = [*self._waits_for(chunk, self.writers), *self._waits_for(chunk, self.readers), self.checked]
            if steps:
                made.append(self._add(tasks, chunk, steps if gradients == "sum" else self.check.guarded(steps), after))
        return self._clipped(tasks, chunks, squares, made) if clips else made

    def of_node(self, node: Node, made: Sequence[Elements]) -> list[Task]:
        """The tasks that change a node's parameters."""
        ranges = self.arrays.weights.ranges(node).values()
        return [task for start, stop in ranges for task in _tasks_on(made, start, stop)]

    def _steps(self, chunk: Chunk, gradients: Gradients, square: Array | None) -> list[Step]:
        training = self.training
        steps = [] if self._whole(chunk) else [training.summing(chunk, self.shards)]
        if gradients == "accumulate":
            steps.append(training.accumulating(chunk))
        elif gradients == "update":
            steps += [training.averaging(chunk)] if training.accumulate > 1 else []
            steps.append(training.updating(chunk) if square is None else training.squaring(chunk, square))
        return steps

    def _clipped(
        self, tasks: TaskGraph, chunks: Sequence[Chunk], squares: Array, made: Sequence[Elements]
    ) -> list[Elements]:
        """Add tasks that measure the norm of the whole gradient, then scale every chunk and update its weights."""
        training = self.training
        factor = shared((), training.weights.values.dtype, 1)
        measuring = self.check.guarded([training.measuring(squares, factor)])
        measured = tasks.add(Task("norm", "update", measuring, [task for _, _, task in made]))
        return [
            self._add(
                tasks,
                chunk,
                self.check.guarded([training.scaling(chunk, factor), training.updating(chunk)]),
                [measured],
            )
            for chunk in chunks
        ]

    def _whole(self, chunk: Chunk) -> bool:
        """Whether the first gradient is that of all shards: it is the only one, or the chunk is of a batch gradient."""
        weights, graph = self.arrays.weights, self.arrays.graph
        at_once = (
            weights.ranges(graph.node(name))[parameter]
            for name, parameters in self.arrays.partition.batch_gradients.items()
            for parameter in parameters
        )
        return self.shards == 1 or any(start <= chunk.start < stop for start, stop in at_once)

    def _add(self, tasks: TaskGraph, chunk: Chunk, steps: Sequence[Step], after: Sequence[Task]) -> Elements:
        training = self.training
        flat = [training.weights.values, *training.slots.values(), *training.gradients[: self.shards]]
        written = [array[chunk.elements] for array in flat]
        return chunk.start, chunk.stop, tasks.add(Task("update", "update", steps, after, writes=written))

    @staticmethod
    def _waits_for(chunk: Chunk, accesses: Sequence[Elements]) -> list[Task]:
        return list(_tasks_on(accesses, chunk.start, chunk.stop))


def _tasks_on(accesses: Sequence[Elements], start: int, stop: int) -> Iterator[Task]:
    """The tasks that touch any of these elements."""
    yield from dict.fromkeys(task for first, last, task in accesses if first < stop and start < last)
