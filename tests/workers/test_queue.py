"""The work queue: order of its tasks, countdowns, and help of whoever is free."""

from __future__ import annotations

from functools import partial

import pytest

from cnnspec.kernels.step import Array, join_steps
from cnnspec.workers import Step, WorkerPool, Workers, WorkQueue, shared
from tests.workers.kinds import KINDS


class Record:
    """The numbers of the tasks that one worker ran, in their order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def of(self, number: int) -> Step:
        return partial(self.numbers.append, number)


def test_first_and_last_keep_the_order_of_their_tasks() -> None:
    pool, record = WorkerPool(1), Record()
    queue = WorkQueue(pool)
    tasks = [queue.add(record.of(number)) for number in range(6)]
    steps: list[Step] = [
        partial(queue.put_last, tasks[2], tasks[3]),
        partial(queue.put_first, tasks[0], tasks[1]),
        partial(queue.put_last, tasks[4], tasks[5]),
        queue.finish,
    ]
    program = [[queue.reset], queue.phase([join_steps(steps)])]
    for _ in range(2):
        pool.run(program)
    assert record.numbers == [0, 1, 2, 3, 4, 5] * 2


def test_the_queue_runs_what_its_own_tasks_put_into_it() -> None:
    pool, record = WorkerPool(1), Record()
    queue = WorkQueue(pool)
    last = queue.add(join_steps([record.of(2), queue.finish]))
    middle = queue.add(join_steps([record.of(1), partial(queue.put_last, last)]))
    pool.run([[queue.reset], queue.phase([join_steps([record.of(0), partial(queue.put_first, middle)])])])
    assert record.numbers == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_countdown_fires_once_a_run_after_all_that_count(size: int, kind: type[Workers]) -> None:
    pool, counted, seen = WorkerPool(size, kind), shared((5,), "int64"), shared((2,), "int64")
    queue = WorkQueue(pool)

    def fire() -> None:
        seen[0] += 1
        seen[1] = counted.sum()

    def count(number: int) -> None:
        counted[number] += 1

    both = queue.countdown(5, join_steps([fire, queue.finish]))
    tasks = [join_steps([partial(count, number), both]) for number in range(5)]
    program = [[queue.reset], queue.phase(tasks)]
    for run in range(1, 30):
        pool.run(program)
        assert seen.tolist() == [run, 5 * run]
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_worker_helps(kind: type[Workers]) -> None:
    """Three tasks that wait for each other end only when three workers run them at once."""
    pool = WorkerPool(3, kind)
    queue = WorkQueue(pool)
    arrived = [pool.semaphore() for _ in range(3)]
    end = queue.countdown(3, queue.finish)

    def wait_for_others(number: int) -> None:
        for other in range(3):
            if other != number:
                arrived[other].release()
        for _ in range(2):
            pool.wait(arrived[number])

    tasks = [queue.add(join_steps([partial(wait_for_others, number), end])) for number in range(3)]
    program = [[queue.reset], queue.phase([partial(queue.put_last, *tasks)])]
    for _ in range(20):
        pool.run(program)
    pool.close()


def fail_if(broken: Array, place: int) -> None:
    if broken[0] == place:
        raise ValueError("broken step")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_step_that_fails_finishes_the_queue(place: int, size: int, kind: type[Workers]) -> None:
    """In a task of the phase, in one of the queue, or in what a countdown runs."""
    pool, broken, done = WorkerPool(size, kind), shared((1,), "int64"), shared((1,), "int64")
    queue = WorkQueue(pool)

    def add() -> None:
        done[0] += 1

    end = queue.countdown(2, join_steps([partial(fail_if, broken, 3), add, queue.finish]))
    task = queue.add(join_steps([partial(fail_if, broken, 2), end]))
    program = [
        [queue.reset],
        queue.phase([join_steps([partial(queue.put_last, task), partial(fail_if, broken, 1), end])]),
    ]
    for run in range(1, 11):
        broken[0] = place
        with pytest.raises(ValueError, match="broken step"):
            pool.run(program)
        broken[0] = 0
        pool.run(program)
        assert done[0] == run
    pool.close()
