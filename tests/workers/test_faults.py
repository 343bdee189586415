"""Workers and callers that are killed, stopped, interrupted or forked: nobody hangs, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.workers import Processes, Program, Threads, WorkerPool, Workers, WorkQueue, shared
from tests.workers.kinds import FORKED, KINDS

ROOT = Path(__file__).parents[2]
LONG = 600  # seconds after which a test fails that waits for something


@FORKED
@pytest.mark.parametrize("size", [2, 3])
def test_a_worker_that_is_killed_in_a_task_is_an_error_and_replaced(size: int) -> None:
    pool, ran = WorkerPool(size), shared((1,), "int64")
    program: Program = [
        [lambda: None, lambda: os.kill(os.getpid(), signal.SIGKILL) if not ran[0] else ran.fill(2), lambda: None],
        [lambda: None] * 3,
    ]
    with pytest.raises(RunError, match="ended from outside"):
        pool.run(program)
    ran.fill(1)
    pool.run(program)
    pool.close()
    assert ran[0] == 2


@FORKED
def test_a_worker_that_is_killed_between_runs_is_an_error_and_replaced() -> None:
    pool, found = WorkerPool(2), shared((1,), "int64")
    program: Program = [[lambda: None, lambda: found.fill(os.getpid())]]
    pool.run(program)
    killed = int(found[0])
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(RunError, match=f"process {killed}.* was ended from outside"):
        pool.run(program)
    pool.run(program)
    pool.close()
    assert found[0] != killed


@FORKED
def test_a_worker_that_waits_for_one_that_was_killed_goes_too() -> None:
    pool, found = WorkerPool(3), shared((1,), "int64")
    never = pool.semaphore()
    program: Program = [
        [lambda: None, lambda: None if found[0] else os.kill(os.getpid(), signal.SIGKILL), lambda: pool.wait(never)]
    ]
    with pytest.raises(RunError, match="ended from outside"):
        pool.run(program)
    found.fill(1)
    never.release()
    pool.run(program)
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_interruption_in_a_task_of_the_caller(kind: type[Workers]) -> None:
    """The run ends at once; of threads, when the tasks that run have ended, since they write to the same arrays."""
    pool, ran = WorkerPool(2, kind), shared((2,), "int64")
    never = pool.semaphore()

    def interrupted() -> None:
        if not ran[0]:
            while not ran[1]:
                time.sleep(1e-3)
            raise KeyboardInterrupt

    def other() -> None:
        ran[1] = 1
        if not ran[0]:
            pool.wait(never)
        ran[1] = 2

    program: Program = [[interrupted, other], [lambda: None] * 2]
    with pytest.raises(KeyboardInterrupt):
        pool.run(program)
    assert ran.tolist() == [0, 1]
    ran[0] = 1
    pool.run(program)
    pool.close()
    assert ran.tolist() == [1, 2]


INTERRUPTED = """
import random, signal, sys, time
from functools import partial
from cnnspec.kernels.step import join_steps
from cnnspec.workers import Processes, Threads, WorkerPool, WorkQueue, shared

armed = False
def interrupt(number, frame):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

pool, counts = WorkerPool(2, {"processes": Processes, "threads": Threads}[sys.argv[1]]), shared((40,), "int64")
chances = random.Random(0)
queue = WorkQueue(pool)
def count(task):
    time.sleep(1e-4)
    counts[task] += 1
end = queue.countdown(20, queue.finish)
numbers = [queue.add(join_steps([partial(count, task), end])) for task in range(20)]
program = [
    [queue.reset],
    [partial(count, task) for task in range(20, 40)],
    queue.phase([partial(queue.put_last, *numbers[:10]), partial(queue.put_first, *numbers[10:])]),
]
signal.signal(signal.SIGALRM, interrupt)
interrupted = 0
for _ in range(int(sys.argv[2])):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, chances.uniform(1e-4, 4e-3))
        pool.run(program)
        armed = False
    except KeyboardInterrupt:
        interrupted += 1
    counts.fill(0)
    pool.run(program)
    assert (counts == 1).all(), counts
pool.close()
print(interrupted > 0)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarm")
@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=FORKED)])
def test_an_interruption_at_any_moment_leaves_a_pool_that_works(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, kind, "25"], cwd=ROOT, capture_output=True, text=True, timeout=LONG * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def fill_with_own_number(place: Array) -> None:
    place.fill(os.getpid())


@FORKED
def test_forks_of_forks_get_workers_of_their_own() -> None:
    pool, found = WorkerPool(2), shared((4, 1), "int64")
    programs: list[Program] = [[[lambda: None, partial(fill_with_own_number, place)]] for place in found]
    pool.learn(*programs)
    pool.run(programs[0])

    def in_a_fork(level: int) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                pool.run(programs[level])
                if level < 2:
                    in_a_fork(level + 1)
                pool.run(programs[level])
                pool.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0

    in_a_fork(1)
    pool.run(programs[3])
    pool.close()
    first, child, grandchild, again = found.ravel().tolist()
    assert len({first, child, grandchild}) == 3
    assert again == first
    assert os.getpid() not in (first, child, grandchild)


HEAD = """
import os, signal, sys, time
from cnnspec.workers import WorkerPool, shared
pool, found = WorkerPool(2), shared((1,), "int64")
never = pool.semaphore()
def begin():
    global held
    held = open(sys.argv[1], "w")  # until this process ends
    found.fill(os.getpid())
def ready():
    while not found[0]:
        time.sleep(1e-3)
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""
IDLE = HEAD + "pool.run([[lambda: None, begin]]); ready()"
WAITING = HEAD + "pool.run([[ready, lambda: (begin(), pool.wait(never))]])"
STOPPED = """
def stop():
    begin()
    os.kill(os.getpid(), signal.SIGSTOP)
def see():
    while not found[0]:
        time.sleep(1e-3)
    os.waitid(os.P_PID, int(found[0]), os.WSTOPPED | os.WNOWAIT)
    ready()
"""
STOPPED = HEAD + STOPPED + "pool.run([[see, stop]])"


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """A named pipe, whose end comes when all that write to it have ended."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


@FORKED
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("program", [IDLE, WAITING, STOPPED], ids=["idle", "waiting", "stopped"])
def test_workers_end_when_their_caller_ends(program: str, number: int, tmp_path: Path) -> None:
    words = [sys.executable, "-c", program, str(tmp_path / "held")]
    with reading(tmp_path / "held") as reader, subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as caller:
        try:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"ready\n"
            caller.send_signal(number)
            assert caller.wait(LONG) == -number
        finally:
            caller.kill()
        assert select.select([reader], [], [], LONG)[0] == [reader]
        assert os.read(reader, 1) == b""


TIDY = """
import os, signal
from functools import partial
from cnnspec.kernels.step import Array
from cnnspec.workers import Processes, WorkerPool, WorkQueue, shared

def files():
    found = 0
    for file in range(1024):
        try:
            os.fstat(file)
        except OSError:
            continue
        found += 1
    return found

def fail():
    raise ValueError

def cycle():
    pool, found = WorkerPool(3), shared((3,), "int64")
    pool.run([[partial(found.__setitem__, task, task) for task in range(3)]])
    for task in (fail, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        try:
            pool.run([[lambda: None, task, lambda: None]])
        except Exception:
            pass
    pool.run([[partial(found.__setitem__, task, task) for task in range(3)]])
    pid = os.fork()
    if pid == 0:
        before = files()
        pool.run([[partial(found.__setitem__, task, task) for task in range(3)]])
        pool.close()
        os._exit(files() > before)
    assert os.waitpid(pid, 0)[1] == 0
    if found[0] == 0:
        pool.close()

cycle()
before = files()
for _ in range(5):
    cycle()
assert files() == before, (files(), before)
try:
    print("child", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("tidy")
"""


@FORKED
def test_nothing_is_left_behind() -> None:
    """No child process, running or not removed, and no open file."""
    done = subprocess.run([sys.executable, "-c", TIDY], cwd=ROOT, capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tidy\n", "")


@FORKED
def test_workers_go_with_their_pool() -> None:
    pool, found = WorkerPool(2, Processes), shared((1,), "int64")
    pool.run([[lambda: None, lambda: found.fill(os.getpid())]])
    del pool
    with pytest.raises(ChildProcessError):
        os.waitpid(int(found[0]), 0)


def test_threads_go_with_their_pool_though_their_program_has_a_queue() -> None:
    pool, before = WorkerPool(3, Threads), set(threading.enumerate())
    queue = WorkQueue(pool)
    task = queue.add(lambda: None)
    phase = queue.phase([lambda: queue.put_last(task), queue.finish])
    pool.run([[queue.reset], phase])
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del pool
    gc.collect()
    for thread in started:
        thread.join(LONG)
        assert not thread.is_alive()


def test_threads_that_wait_for_work_end_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often they look whether they are still wanted."""
    monkeypatch.setattr("cnnspec.workers.base.PATIENCE", 0)
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    before = set(threading.enumerate())
    for _ in range(200):
        pool = WorkerPool(3, Threads)
        pool.run([[lambda: None] * 3])
        pool.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG)
    assert not errors
