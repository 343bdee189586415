"""The dependency graph of a step: its tasks, the arrays that they use, and the tasks that must end before each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnspec.kernels.step import Array, Step


@dataclass(eq=False)
class Task:
    """Steps that one worker runs without a break, after all tasks of `after`.

    A task of a lane is run by that lane's worker, in the order of the graph. A task without a lane waits in the work
    queue for the next free worker, in front of all others if it is `urgent`. An `inline` task is so short that the
    worker that completes the last task before it runs it at once.
    """

    name: str  # the node's name, or a word for work of the whole step
    kind: str  # enter, forward, loss, input, params, update, prepare, ...
    steps: Sequence[Step]
    after: Sequence[Task] = ()
    lane: int | None = None
    urgent: bool = False
    inline: bool = False
    barrier: bool = False  # the other lanes also wait for the tasks of `after`: all begin a phase together
    reads: Sequence[Array] = ()
    writes: Sequence[Array] = ()
    portion: float = 0.0  # the part of the node's work for the whole batch that this task does, 0 to 1


@dataclass
class TaskGraph:
    """Tasks, each behind the tasks that it waits for."""

    tasks: list[Task] = field(default_factory=list)

    def add(self, task: Task) -> Task:
        """Append a task; its predecessors must have been added, and one without a lane must have some."""
        if task.lane is None and not task.after:
            raise ValueError(f"nothing starts {task.kind} {task.name}, which has neither a lane nor predecessors")
        self.tasks.append(task)
        return task

    def predecessors(self) -> dict[Task, set[Task]]:
        """The tasks directly before each task: those of `after`, and the task before it in its lane."""
        result: dict[Task, set[Task]] = {}
        last: dict[int, Task] = {}
        for task in self.tasks:
            result[task] = set(task.after)
            if task.lane is not None:
                result[task] |= {last[task.lane]} if task.lane in last else set()
                last[task.lane] = task
        return result

    def concurrent(self) -> Iterator[tuple[Task, Task]]:
        """All pairs of tasks of which neither must be over before the other begins."""
        before: dict[Task, set[Task]] = {}
        predecessors = self.predecessors()
        for index, task in enumerate(self.tasks):
            direct = predecessors[task]
            before[task] = direct.union(*(before[other] for other in direct))
            yield from ((other, task) for other in self.tasks[:index] if other not in before[task])
