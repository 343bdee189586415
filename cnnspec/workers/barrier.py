"""The barrier between two phases: no worker begins the next phase before all workers have ended this one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Protocol

from cnnspec.workers.shared_memory import shared


class Semaphore(Protocol):
    """The interface of a semaphore, of threads or of processes."""

    def acquire(self, blocking: bool = True, timeout: float | None = None, /) -> bool:
        """Take one unit and return True; return False if none comes within the timeout."""

    def release(self) -> None:
        """Add one unit."""


class Barrier:
    """A dissemination barrier of semaphores for a fixed number of workers, which a worker that fails can break.

    In round r, worker i tells worker i + 2^r that it has come, and waits to be told by worker i - 2^r (modulo the
    number of workers). After ceil(log2 n) rounds each worker has heard of all others, directly or not. Two workers
    need one semaphore each, which takes half as long as a barrier by way of the caller.

    Source: Hensgen, Finkel and Manber, "Two Algorithms for Barrier Synchronization" (1988).
    """

    def __init__(self, size: int, semaphore: Callable[[], Semaphore]) -> None:
        rounds = range((size - 1).bit_length())
        arrived = [[semaphore() for _ in range(size)] for _ in rounds]  # by round and by the worker that is told
        self._rounds = [[(arrived[r][(i + 2**r) % size], arrived[r][i]) for r in rounds] for i in range(size)]
        self._semaphores = list(chain.from_iterable(arrived))
        self._broken = shared((1,), "int64").data  # the elements of a memoryview are plain numbers

    def wait(self, index: int, until: Callable[[Semaphore], None]) -> bool:
        """Wait as worker `index` for all others, with `until` for each semaphore; return False if it is broken."""
        for next_arrived, own_arrived in self._rounds[index]:
            next_arrived.release()
            until(own_arrived)
            if self._broken[0]:
                self.break_(index)
                return False
        return True

    def break_(self, index: int) -> None:
        """Declare that worker `index` will come to no further barrier, so that no other worker waits for it.

        Each worker that it tells leaves in the same way, so that the news reaches all.
        """
        self._broken[0] = 1
        for next_arrived, _ in self._rounds[index]:
            next_arrived.release()

    def mend(self) -> None:
        """Repair a broken barrier, while no worker is at it."""
        if self._broken[0]:
            for semaphore in self._semaphores:
                while semaphore.acquire(False):
                    pass
            self._broken[0] = 0
