"""Workers that are threads of the caller's process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from cnnspec.diagnostics import RunError, ThreadsError
from cnnspec.workers.base import END, Semaphore, State, Workers
from cnnspec.workers.program import Program


class _Semaphore:
    """A semaphore of one call into C: an interruption of one of `threading` may leave its lock held for ever."""

    def __init__(self, value: int) -> None:
        self._units: SimpleQueue[None] = SimpleQueue()
        for _ in range(value):
            self._units.put(None)

    def acquire(self, blocking: bool = True, timeout: float | None = None, /) -> bool:
        try:
            self._units.get(blocking, timeout)
        except Empty:
            return False
        return True

    def release(self) -> None:
        self._units.put(None)


class Threads(Workers):
    """Threads work on every system, but run at the same time only inside NumPy: Python's lock admits one at a time."""

    polls = 0  # a thread that looks holds Python's lock, which the others need

    def __init__(self, size: int, programs: Sequence[Program], state: State) -> None:
        super().__init__(size, programs, state)
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._ended = False

    @staticmethod
    def semaphore(value: int = 0) -> Semaphore:
        """Make a semaphore."""
        return _Semaphore(value)

    def begin(self) -> None:
        """Start the threads, which end with the process at the latest; ThreadsError if the system refuses."""
        for index in range(1, self._size):
            thread = threading.Thread(target=self._serve, args=(index,), daemon=True, name=f"cnnspec-{index}")
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                raise ThreadsError(
                    f"the system refuses to start thread {index + 1} of {self._size}",
                    help="use fewer: --threads N, or allow this user more (ulimit -u)",
                ) from error
            self._threads.append(thread)

    def end(self) -> None:
        """Tell the threads to end. After an interruption, wait until they have: they write to the arrays of a plan."""
        self._barrier.break_(0)
        self._send(END)
        self._ended = True  # last: a thread that waits for a command and sees this has one
        if self.busy and not sys.is_finalizing():
            for thread in self._threads:
                thread.join()

    def _error(self) -> BaseException | None:
        errors, self._errors = self._errors, []
        return errors[0] if errors else None

    def _report(self, error: BaseException) -> None:
        self._errors.append(error)

    def _check(self) -> None:
        if self._ended:
            raise RunError("the worker pool was closed while a task was waiting")
