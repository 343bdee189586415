"""A fixed team of threads that runs phases of tasks; who runs a task never changes its result."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from cnnspec.kernels.step import Step, step_state

Phase = Sequence[Step]


class Team:
    """Threads that live as long as the run. Task i of a phase runs on thread i modulo the team's size.

    Between phases everybody meets. Two raw locks a worker make a meeting 7 to 30 us; an executor's dispatch takes 50.
    Each thread keeps to its share of the processors: else one may be woken on the processor of the one that wakes it,
    where both run in turn.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._shares = _processors(size)
        self._phase: Phase = ()
        self._error: BaseException | None = None
        self._go = [_thread.allocate_lock() for _ in range(size)]
        self._done = [_thread.allocate_lock() for _ in range(size)]
        for lock in (*self._go, *self._done):
            lock.acquire()
        self._closed = False
        for index in range(1, size):
            threading.Thread(target=self._work, args=(index,), daemon=True, name=f"cnnspec-{index}").start()

    def run(self, phases: Sequence[Phase]) -> None:
        """Run all phases, in order; an exception in any task is raised here after its phase."""
        together = self.size > 1 and any(len(phase) > 1 for phase in phases)
        with step_state(), self._kept(0) if together else nullcontext():
            for phase in phases:
                if together and len(phase) > 1:
                    self._meet(phase)
                else:
                    for task in phase:
                        task()

    def close(self) -> None:
        """Let the workers end."""
        self._closed = True
        for lock in self._go[1:]:
            lock.release()

    def _meet(self, phase: Phase) -> None:
        self._phase = phase
        for lock in self._go[1:]:
            lock.release()
        try:
            for task in phase[:: self.size]:
                task()
        finally:
            for lock in self._done[1:]:
                lock.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    @contextmanager
    def _kept(self, index: int) -> Iterator[None]:
        """The calling thread on its share of the processors."""
        if not self._shares:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._shares[index])
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def _work(self, index: int) -> None:
        with step_state(), self._kept(index):
            while True:
                self._go[index].acquire()
                if self._closed:
                    return
                try:
                    for task in self._phase[index :: self.size]:
                        task()
                except BaseException as error:
                    self._error = error
                finally:
                    self._done[index].release()


def _processors(count: int) -> list[set[int]]:
    """The processors that this process may use in equal shares; none where too few or unknown."""
    if count == 1 or not hasattr(os, "sched_setaffinity"):
        return []
    usable = sorted(os.sched_getaffinity(0))
    each = len(usable) // count
    return [set(usable[i * each : (i + 1) * each]) for i in range(count)] if each else []
