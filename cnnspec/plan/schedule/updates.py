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

GradientUse = Literal["sum", "accumulate", "update"]  # the last thing that a training pass does
TaskRange = tuple[int, int, Task]  # a task, after the first element that it touches and one past the last


class Updates:
    """The tasks at the end of a training pass; `checked` is the task that has checked the losses."""

    def __init__(
        self,
        arrays: Arrays,
        training: Training,
        check: LossCheck,
        checked: Task,
        writers: Sequence[TaskRange],
        readers: Sequence[TaskRange],
        shards: int,
    ) -> None:
        self.arrays, self.training, self.check, self.checked = arrays, training, check, checked
        self.writers, self.readers = writers, readers  # tasks that write the gradient, and that read the weights
        self.shards = shards  # the number of shards whose gradients are still to be added

    def add_tasks(self, tasks: TaskGraph, use: GradientUse, apart: Collection[str]) -> list[TaskRange]:
        """Add a task for each chunk; nodes `apart` have chunks of their own. Return the tasks that come last."""
        boundaries = {end for start, stop, _ in self.writers for end in (start, stop)}
        chunks = [chunk for chunk in self.training.chunks(boundaries, apart) if self._tasks_before(chunk, self.writers)]
        clips = use == "update" and self.training.clip.norm is not None and bool(chunks)
        squares = shared((len(chunks),), np.float64)
        summed: list[TaskRange] = []
        for index, chunk in enumerate(chunks):
            steps = self._steps_of(chunk, use, squares[index : index + 1] if clips else None)
            after = [*self._tasks_before(chunk, self.writers), *self._tasks_before(chunk, self.readers), self.checked]
            if steps:
                summed.append(self._add(tasks, chunk, steps if use == "sum" else self.check.guard(steps), after))
        return self._add_clipped(tasks, chunks, squares, summed) if clips else summed

    def tasks_of_node(self, node: Node, updates: Sequence[TaskRange]) -> list[Task]:
        """The tasks that change a node's parameters."""
        ranges = self.arrays.weights.ranges(node).values()
        return [task for start, stop in ranges for task in _tasks_on(updates, start, stop)]

    def _steps_of(self, chunk: Chunk, use: GradientUse, square: Array | None) -> list[Step]:
        training = self.training
        steps = [] if self._is_summed(chunk) else [training.sum_step(chunk, self.shards)]
        if use == "accumulate":
            steps.append(training.accumulate_step(chunk))
        elif use == "update":
            steps += [training.mean_step(chunk)] if training.accumulate > 1 else []
            steps.append(training.update_step(chunk) if square is None else training.square_step(chunk, square))
        return steps

    def _add_clipped(
        self, tasks: TaskGraph, chunks: Sequence[Chunk], squares: Array, summed: Sequence[TaskRange]
    ) -> list[TaskRange]:
        """Add tasks that measure the norm of the whole gradient, then scale every chunk and update its weights."""
        training = self.training
        factor = shared((), training.weights.values.dtype, 1)
        measuring = self.check.guard([training.factor_step(squares, factor)])
        measured = tasks.add(Task("norm", "update", measuring, [task for _, _, task in summed]))
        return [
            self._add(
                tasks,
                chunk,
                self.check.guard([training.scale_step(chunk, factor), training.update_step(chunk)]),
                [measured],
            )
            for chunk in chunks
        ]

    def _is_summed(self, chunk: Chunk) -> bool:
        """Whether the first gradient is that of all shards: it is the only one, or the chunk is of a batch gradient."""
        weights, graph = self.arrays.weights, self.arrays.graph
        batch_ranges = (
            weights.ranges(graph.node(name))[parameter]
            for name, parameters in self.arrays.partition.batch_gradients.items()
            for parameter in parameters
        )
        return self.shards == 1 or any(start <= chunk.start < stop for start, stop in batch_ranges)

    def _add(self, tasks: TaskGraph, chunk: Chunk, steps: Sequence[Step], after: Sequence[Task]) -> TaskRange:
        training = self.training
        flat = [training.weights.values, *training.slots.values(), *training.gradients[: self.shards]]
        written = [array[chunk.elements] for array in flat]
        return chunk.start, chunk.stop, tasks.add(Task("update", "update", steps, after, writes=written))

    @staticmethod
    def _tasks_before(chunk: Chunk, accesses: Sequence[TaskRange]) -> list[Task]:
        return list(_tasks_on(accesses, chunk.start, chunk.stop))


def _tasks_on(accesses: Sequence[TaskRange], start: int, stop: int) -> Iterator[Task]:
    """The tasks that touch any of these elements."""
    yield from dict.fromkeys(task for first, last, task in accesses if first < stop and start < last)
