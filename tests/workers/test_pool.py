"""The pool: every task runs once, phases do not overlap, and errors come back to the caller."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from random import Random

import numpy as np
import pytest

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.workers import Processes, Program, Semaphore, WorkerPool, Workers, shared
from tests.workers.kinds import FORKED, KINDS, raising


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_every_phase_ends_before_the_next_begins(size: int, kind: type[Workers]) -> None:
    pool, done, late = WorkerPool(size, kind), shared((50, 7), "int64"), shared((50, 7), "int64")

    def task(phase: int, number: int) -> None:
        late[phase, number] = phase and (done[phase - 1] == 0).sum() + done[phase + 1 :].sum()
        done[phase, number] += 1

    pool.run([[partial(task, phase, number) for number in range(7)] for phase in range(50)])
    pool.close()
    assert (done == 1).all()
    assert not late.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_failure_ends_all_phases_and_the_next_run_is_whole(size: int, kind: type[Workers]) -> None:
    """Whoever fails, early or late: nobody goes on, nobody waits for one that has left."""
    pool, done, broken, random = WorkerPool(size, kind), shared((9, 6), "int64"), shared((3,), "int64"), Random(size)

    def task(phase: int, number: int) -> None:
        if number == broken[2]:
            time.sleep(1e-3)
        if broken[:2].tolist() == [phase, number]:
            raise ValueError("broken task")
        done[phase, number] += 1

    counts = [6, 5, 4, 1, 2, 3, 6, 1, 6]
    phases = [[partial(task, phase, number) for number in range(count)] for phase, count in enumerate(counts)]
    expected = np.array([[number < count for number in range(6)] for count in counts])
    for _ in range(25):
        phase = random.randrange(9)
        broken[:] = phase, random.randrange(counts[phase]), random.randrange(6)
        done.fill(0)
        with pytest.raises(ValueError, match="broken task"):
            pool.run(phases)
        np.testing.assert_array_equal(done[:phase], expected[:phase])
        assert not done[phase + 1 :].any()
        broken.fill(-1)
        done.fill(0)
        pool.run(phases)
        np.testing.assert_array_equal(done, expected)
    pool.close()


class TwoWordsError(Exception):
    """One that cannot be made again from its arguments, as pickle tries."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ValueError("broken task"), ValueError, "broken task"),
        (type("Local", (Exception,), {})("no message"), Exception, "no message"),
        (TwoWordsError("one", "two"), Exception, "one and two"),
        (ValueError("long " * 10**5), Exception, "long long"),
        (SystemExit(3), SystemExit, "3"),
    ],
    ids=["plain", "unknown class", "two words", "long", "exit"],
)
def test_an_error_of_a_worker_is_raised_in_the_caller(
    error: BaseException, expected: type[BaseException], message: str, kind: type[Workers]
) -> None:
    pool, ran = WorkerPool(3, kind), shared((3,), "int64")
    with pytest.raises(expected, match=message):
        pool.run([[lambda: None, raising(error), raising(error)]])
    pool.run([[partial(ran.__setitem__, number, 1) for number in range(3)]])
    pool.close()
    assert ran.all()


@pytest.mark.parametrize("kind", KINDS)
def test_errors_keep_their_help_and_say_where_they_come_from(kind: type[Workers]) -> None:
    pool = WorkerPool(2, kind)
    with pytest.raises(RunError) as caught:
        pool.run([[lambda: None, raising(RunError("no room", help="make some"))]])
    pool.close()
    assert caught.value.help == "make some"
    if pool.forks:
        assert "in step" in caught.value.__notes__[0]


def ask(found: Array) -> Program:
    """A program that has the second worker say which process it is."""
    return [[lambda: None, lambda: found.fill(os.getpid())]]


@FORKED
def test_where_no_process_can_be_made_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    pool, found = WorkerPool(2), shared((1,), "int64")
    pool.run(ask(found))
    pool.close()
    assert found[0] == os.getpid()


@pytest.mark.parametrize("later", [False, True])
def test_where_the_system_has_no_semaphores_there_are_threads(later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: int = 0) -> Semaphore:
        raise FileNotFoundError("no /dev/shm")

    with monkeypatch.context() as patch:
        if not later:
            patch.setattr(Processes, "semaphore", staticmethod(refuse))
        pool, found = WorkerPool(2), shared((1,), "int64")
        patch.setattr(Processes, "semaphore", staticmethod(refuse))
        semaphore = pool.semaphore()
        pool.run([[semaphore.release, lambda: pool.wait(semaphore)]])
        pool.run(ask(found))
        pool.close()
    assert found[0] == os.getpid()


def test_threads_that_the_system_refuses_are_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "cnnspec-3":
            raise RuntimeError("can't start new thread")
        start(thread)

    pool, program = WorkerPool(5, KINDS[0]), [[lambda: None] * 5]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RunError, match="refuses to start thread 4 of 5") as caught:
            pool.run(program)
    assert "--threads" in str(caught.value.help)
    pool.run(program)
    pool.close()


@FORKED
def test_programs_that_were_announced_run_on_the_same_workers() -> None:
    pool, found = WorkerPool(2), shared((3, 1), "int64")
    programs = [ask(place) for place in found]
    pool.learn(*programs[:2])
    for program in programs:
        pool.run(program)
    assert found[0] == found[1] != found[2]
    for program in programs:
        pool.run(program)
    assert (found == found[0]).all()
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_more_programs_than_workers_are_told_of(kind: type[Workers]) -> None:
    pool, counts = WorkerPool(2, kind), shared((30, 2), "int64")

    def count(program: int, task: int) -> None:
        counts[program, task] += 1

    programs = [[[partial(count, number, 0), partial(count, number, 1)]] for number in range(30)]
    for _ in range(2):
        for program in programs:
            pool.run(program)
    pool.close()
    assert (counts == 2).all()


@FORKED
def test_signals_to_the_whole_group_are_the_callers_business() -> None:
    pool, ran = WorkerPool(2, Processes), shared((1,), "int64")

    def signalled() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        ran.fill(1)

    pool.run([[lambda: None, signalled]])
    pool.close()
    assert ran[0] == 1


@FORKED
def test_workers_hold_no_file_of_the_caller() -> None:
    reader, writer = os.pipe()
    pool, held = WorkerPool(3, Processes), shared((3,), "int64")

    def look(index: int) -> None:
        for file in (reader, writer):
            try:
                os.fstat(file)
            except OSError:
                held[index] += 1

    try:
        pool.run([[partial(look, index) for index in range(3)]])
    finally:
        os.close(reader)
        os.close(writer)
    pool.close()
    assert held.tolist() == [0, 2, 2]
