"""The worker pool: a fixed number of workers that run programs; a task's result is the same on any worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

from cnnspec.kernels.blas import one_blas_thread
from cnnspec.kernels.step import set_step_state, step_state
from cnnspec.workers.base import Semaphore, Workers
from cnnspec.workers.processes import Processes
from cnnspec.workers.program import Program, is_parallel
from cnnspec.workers.threads import Threads

MOST_PROGRAMS = 24  # the number of latest programs that workers are told of
SHORT = 2e-3  # seconds: in a shorter run the system does not move a worker to another processor


class WorkerPool:
    """Run programs on `size` workers, the caller among them; `kind` is Processes or Threads, else the system's best.

    Workers start with the first parallel run. They know the programs that `learn` has announced by then; for any other
    program they are replaced. Each worker keeps to its own part of the processors: otherwise the system may wake it on
    the processor of the worker that wakes it, where both run in turn.
    """

    def __init__(self, size: int, kind: type[Workers] | None = None) -> None:
        self.size = size
        self._kind = kind or (Processes if size > 1 and Processes.supported() else Threads)
        self._processors = _processors(size)
        self._programs: list[Program] = []
        self._numbers: dict[int, int] = {}  # the numbers of the programs, by their identity
        self._short: list[bool] = []  # whether the last run of each program was short
        self._workers: Workers | None = None
        self._owner = os.getpid()
        self._context = copy_context()  # entering NumPy's state for steps in it takes a tenth of a microsecond
        self._context.run(set_step_state)

    @property
    def forks(self) -> bool:
        """Whether the workers are processes, for which a barrier takes about a microsecond."""
        return self._kind is Processes

    def learn(self, *programs: Program) -> None:
        """Announce programs before they run, so that the same workers know all of them."""
        new = [program for program in programs if self._is_parallel(program) and id(program) not in self._numbers]
        if new:
            self.close()
            self._programs = [*self._programs, *new][-MOST_PROGRAMS:]
            self._short = [False] * len(self._programs)
            self._numbers = {id(program): number for number, program in enumerate(self._programs)}

    def run(self, program: Program) -> None:
        """Run all phases in order; an exception in any task is raised here, after its phase.

        Every matrix product has one thread meanwhile. Workers that are processes start in that state and keep it.
        """
        with one_blas_thread:
            self._run(program)

    def _run(self, program: Program) -> None:
        number = self._numbers.get(id(program))
        if number is None:
            if not self._is_parallel(program):
                self._context.run(_run_serially, program)
                return
            self.learn(program)
            number = self._numbers[id(program)]
        workers, started = self._started(), time.perf_counter()
        try:
            if self._short[number] and workers.awake:  # pinning the caller would take as long as a small layer
                self._context.run(workers.run, number)
            else:
                with _pinned(self._processors, 0):
                    self._context.run(workers.run, number)
        finally:
            if workers.busy:  # the run was interrupted, and workers may be in the midst of it
                self.close()
        self._short[number] = time.perf_counter() - started < SHORT

    def semaphore(self, value: int = 0) -> Semaphore:
        """Make a semaphore for tasks to wait at, before the programs that use it are run."""
        try:
            return self._kind.semaphore(value)
        except OSError:
            self._kind = Threads
            self.close()
            return Threads.semaphore(value)

    def wait(self, semaphore: Semaphore) -> None:
        """Wait within a task for a semaphore that another worker releases; RunError if that worker was killed."""
        if self._workers is None:
            semaphore.acquire()
        else:
            self._workers.wait(semaphore)

    def close(self) -> None:
        """End the workers; a later run starts new ones."""
        try:
            if self._workers is not None and self._owner == os.getpid():
                self._workers.end()
        finally:
            self._workers = None

    def __del__(self) -> None:
        self.close()

    def _is_parallel(self, program: Program) -> bool:
        return self.size > 1 and is_parallel(program)

    def _started(self) -> Workers:
        if self._owner != os.getpid():  # this process was forked from the owner of the workers
            self._workers, self._owner = None, os.getpid()
        return self._workers or self._begin()

    def _begin(self) -> Workers:
        try:
            return self._begin_as(self._kind)
        except (OSError, MemoryError):  # no room for one more process, pipe, semaphore or shared array
            return self._begin_as(Threads)

    def _begin_as(self, kind: type[Workers]) -> Workers:
        """Start workers of a kind; the pool holds them before they fork, so that `wait` also works in each of them."""
        try:
            self._workers = workers = kind(self.size, tuple(self._programs), partial(_worker_state, self._processors))
            workers.begin()
        except BaseException:
            self.close()
            raise
        return workers


def _run_serially(program: Program) -> None:
    for phase in program:
        for task in phase:
            task()


@contextmanager
def _worker_state(processors: Sequence[set[int]], index: int) -> Iterator[None]:
    """Set the state in which a worker works. It must not refer to the pool, whose deletion ends the workers."""
    with step_state(), _pinned(processors, index):
        yield


@contextmanager
def _pinned(processors: Sequence[set[int]], index: int) -> Iterator[None]:
    """Keep the calling thread on its part of the processors inside of a `with`."""
    if not processors:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors[index])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _processors(count: int) -> list[set[int]]:
    """Divide the processors of this process into `count` equal parts; empty if they are too few or unknown."""
    if count == 1 or not hasattr(os, "sched_setaffinity"):
        return []
    usable = sorted(os.sched_getaffinity(0))
    each = len(usable) // count
    return [set(usable[i * each : (i + 1) * each]) for i in range(count)] if each else []
