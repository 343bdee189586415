"""Binding: a dependency graph becomes a program for a worker pool, flat lists of steps that cost nothing to dispatch.

Tasks of lanes become phases, with a barrier between them wherever one lane waits for another; within a phase all tasks
of a lane are one list of steps. Tasks without a lane go through a work queue: the worker that completes the last task
before one of them puts it there, and a worker that has come to the end of its lane takes tasks from the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from cnnspec.kernels.step import Step, join_steps
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.workers import Program, WorkerPool, WorkQueue


def bind(graph: TaskGraph, pool: WorkerPool) -> Program:
    """Return the program that runs the graph's tasks on the pool's workers."""
    phases = _lanes_by_phase(graph, pool)
    if all(task.lane is not None for task in graph.tasks):
        return [[join_steps([step for task in lane for step in task.steps]) for lane in phase] for phase in phases]
    queue = WorkQueue(pool)
    binder = _Binder(graph, queue, lanes=len(phases[-1]))
    *first, last = [[[step for task in lane for step in binder.run(task)] for lane in phase] for phase in phases]
    return [
        [queue.reset],
        *([join_steps(steps) for steps in phase] for phase in first),
        queue.phase([join_steps([*steps, binder.end]) for steps in last]),
    ]


def _lanes_by_phase(graph: TaskGraph, pool: WorkerPool) -> list[list[list[Task]]]:
    """The tasks of each lane in each phase; a task that waits for another lane, or for a barrier, begins a phase."""
    phase_of: dict[Task, int] = {}
    tasks_by_lane: list[dict[int, list[Task]]] = []
    reached: dict[int, int] = {}  # the current phase of each lane
    for task in graph.tasks:
        if task.lane is None:
            continue
        waits = [phase_of[other] + (task.barrier or other.lane != task.lane) for other in task.after]
        phase = phase_of[task] = reached[task.lane] = max([reached.get(task.lane, 0), *waits])
        tasks_by_lane += [{} for _ in range(phase + 1 - len(tasks_by_lane))]
        tasks_by_lane[phase].setdefault(task.lane, []).append(task)
    phases = [[lanes[lane] for lane in sorted(lanes)] for lanes in tasks_by_lane]
    turned = False
    for tasks in phases:
        if turned:  # a worker goes on with the lane that it had last, whose arrays are in its cache
            for worker in range(pool.size):
                tasks[worker :: pool.size] = tasks[worker :: pool.size][::-1]
        turned ^= len(tasks) > 1
    return phases


class _Binder:
    """Adds to each task the steps at its end that start the tasks waiting for it."""

    def __init__(self, graph: TaskGraph, queue: WorkQueue, *, lanes: int) -> None:
        self.queue = queue
        self.order = {task: position for position, task in enumerate(graph.tasks)}
        self.passed: dict[Task, dict[int, int]] = {}  # how far each lane must have come when a queued task ends
        self.before = {task: self.awaited(task) for task in graph.tasks if task.lane is None}
        self.behind: dict[Task, list[Task]] = {task: [] for task in graph.tasks}
        for task, others in self.before.items():
            for other in others:
                self.behind[other].append(task)
        ends = lanes + sum(not self.behind[task] for task in self.before)
        self.end = queue.countdown(ends, queue.finish)  # at the end of every lane, and of tasks that nothing follows
        self.starts: dict[tuple[tuple[Task, ...], bool, bool], Step] = {}

    def awaited(self, task: Task) -> tuple[Task, ...]:
        """The fewest tasks whose ends imply that all tasks of `after` are over."""
        queued = [other for other in dict.fromkeys(task.after) if other.lane is None]
        implied: dict[int, int] = {}  # how far the lanes have come, as queued tasks have waited for them
        for other in queued:
            for lane, position in self.passed[other].items():
                implied[lane] = max(implied.get(lane, -1), position)
        latest: dict[int, Task] = {}
        for other in task.after:
            if other.lane is not None and self.order[other] > implied.get(other.lane, -1):
                previous = latest.setdefault(other.lane, other)
                latest[other.lane] = max(previous, other, key=self.order.__getitem__)
        passed = self.passed[task] = implied | {lane: self.order[other] for lane, other in latest.items()}
        # An inline task is over once all lanes have gone on from what it waits for: one of them has run it.
        needed = [
            other
            for other in queued
            if not other.inline or any(passed.get(lane, -1) <= at for lane, at in self.passed[other].items())
        ]
        return (*latest.values(), *needed)

    def run(self, task: Task) -> list[Step]:
        """A task's steps, followed by those that start the tasks waiting for it."""
        steps = list(task.steps)
        waiting = self.behind[task]
        if task.lane is None and not waiting:
            return [*steps, self.end]
        groups: dict[tuple[tuple[Task, ...], bool, bool], list[Task]] = {}
        for other in waiting:
            groups.setdefault((self.before[other], other.urgent, other.inline), []).append(other)
        for key, group in groups.items():
            steps += self.start(key, group, only=task.lane is None and len(waiting) == 1)
        return steps

    def start(self, key: tuple[tuple[Task, ...], bool, bool], group: list[Task], *, only: bool) -> Iterable[Step]:
        """The steps at a task's end for a group of tasks that wait for the same ones.

        The group runs at once, without the queue, if it is inline or the `only` one to wait for a queued task.
        """
        before, urgent, inline = key
        if len(before) == 1 and (only or inline):
            return [step for task in group for step in self.run(task)]
        if key not in self.starts:
            if inline:
                start = join_steps([step for task in group for step in self.run(task)])
            else:
                numbers = [self.queue.add(join_steps(self.run(task))) for task in group]
                start = partial(self.queue.put_first if urgent else self.queue.put_last, *numbers)
            self.starts[key] = start if len(before) == 1 else self.queue.countdown(len(before), start)
        return [self.starts[key]]
