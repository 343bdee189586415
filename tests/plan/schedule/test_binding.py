"""Random dependency graphs, bound to 1 to 4 workers of both kinds: a task runs once, after all that it waits for."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.plan.schedule.binding import bind
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.workers import Processes, Threads, WorkerPool, Workers, shared

MOST = 24

Drawn = list[tuple[int | None, list[int], bool, bool]]  # lane, predecessors, urgent, inline


@st.composite
def task_graphs(draw: st.DrawFn) -> Drawn:
    """The lane, the predecessors, and whether it is urgent or inline, of each task; no lane waits for the queue."""
    found: Drawn = []
    for index in range(draw(st.integers(1, MOST))):
        lane = draw(st.sampled_from([0, 0, 1, 2, None, None])) if index else 0
        able = [i for i in range(index) if lane is None or found[i][0] is not None]
        after = draw(st.lists(st.sampled_from(able), max_size=4, unique=True)) if able else []
        if lane is None and not after:
            after = [0]
        inline = lane is None and draw(st.booleans()) and all(found[i][0] is not None for i in after)
        found.append((lane, after, draw(st.booleans()), inline))
    return found


class Log:
    """Which tasks have run, in memory that all workers see, and those that ran too early."""

    def __init__(self, count: int) -> None:
        self.runs, self.early = shared((count,), "int64"), shared((count,), "int64")

    def step(self, index: int, after: list[int]) -> None:
        self.early[index] += any(not self.runs[other] for other in after)
        self.runs[index] += 1


def build(drawn: Drawn, log: Log) -> TaskGraph:
    tasks, lasts = TaskGraph(), dict[int, int]()
    made: list[Task] = []
    for index, (lane, after, urgent, inline) in enumerate(drawn):
        waited = [*after, *([lasts[lane]] if lane in lasts else [])] if lane is not None else after
        steps = [partial(log.step, index, waited)]
        task = Task(str(index), "task", steps, tuple(made[i] for i in after), lane, urgent, inline)
        made.append(tasks.add(task))
        if lane is not None:
            lasts[lane] = index
    return tasks


def check(drawn: Drawn, pool: WorkerPool, runs: int = 1) -> None:
    """Bind and run; `early` compares with the runs so far, so that it tells of the first run alone."""
    log = Log(len(drawn))
    program = bind(build(drawn, log), pool)
    for run in range(1, runs + 1):
        pool.run(program)
        assert log.runs.tolist() == [run] * len(drawn)
        assert not log.early.any()
    pool.close()


@settings(max_examples=80, deadline=None)
@given(task_graphs())
def test_one_worker(drawn: Drawn) -> None:
    check(drawn, WorkerPool(1))


@pytest.mark.parametrize("kind", [Threads, Processes])
@pytest.mark.parametrize("size", [2, 3, 4])
@settings(max_examples=8, deadline=None)
@given(task_graphs())
def test_several_workers(kind: type[Workers], size: int, drawn: Drawn) -> None:
    if kind is Processes and not Processes.supported():
        pytest.skip("this system has no processes that fork")
    check(drawn, WorkerPool(size, kind))


def test_a_program_runs_again() -> None:
    drawn: Drawn = [
        (0, [], False, False),
        (1, [], False, False),
        (None, [0, 1], False, True),
        (0, [1], False, False),
        (None, [3], True, False),
        (None, [4, 2], False, False),
    ]
    check(drawn, WorkerPool(2), runs=20)


def test_a_lane_has_its_order() -> None:
    seen: list[int] = []
    tasks = TaskGraph()
    for index in range(5):
        tasks.add(Task(str(index), "task", [partial(seen.append, index)], lane=0))
    pool = WorkerPool(1)
    pool.run(bind(tasks, pool))
    assert seen == [0, 1, 2, 3, 4]


def test_lanes_begin_together_behind_a_barrier() -> None:
    """Otherwise one lane would go on alone, as it waits for nothing but its own tasks."""
    tasks = TaskGraph()
    first = tasks.add(Task("enter", "task", [], lane=0))
    parts = [tasks.add(Task("part", "task", [], (first,), lane, barrier=True)) for lane in range(2)]
    summed = tasks.add(Task("sum", "task", [], tuple(parts), lane=0))
    for lane in range(2):
        tasks.add(Task("next", "task", [], (summed,), lane, barrier=True))
    assert [len(phase) for phase in bind(tasks, WorkerPool(2))] == [1, 2, 1, 2]


def test_what_nothing_would_start_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing starts"):
        TaskGraph().add(Task("lost", "update", []))
