"""One shard on two threads: the way to the loss and back, and beside it what nobody waits for."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable, Sequence

from cnnspec.kernels.step import Step, in_turn
from cnnspec.plan.team import Phase


class Backlog:
    """Tasks that the first thread leaves on its way. Whoever is free takes the next; at the end the first one helps.

    Threads meet only where one needs a result of the other, so that unequal tasks cost no waiting.
    """

    def __init__(self) -> None:
        self._tasks: deque[Step] = deque()
        self._over = False
        self._more = _thread.allocate_lock()  # released when the helper may find something
        self._more.acquire()

    def phase(self, there: Sequence[Step], back: Sequence[Step], goes_back: Callable[[], bool]) -> Phase:
        """The way there, the way back if it is to be gone, and the help beside them; one thread alone does it all."""

        def way() -> None:
            self._tasks.clear()  # of a run that failed
            try:
                for step in there:
                    step()
                if goes_back():
                    for step in back:
                        step()
                while self._take():
                    pass
            finally:
                self._over = True
                self._wake()

        return [way, self._help]

    def last(self, tasks: Sequence[Step]) -> None:
        """Leave tasks that come after all others."""
        self._tasks.extend(tasks)
        self._wake()

    def next(self, task: Step) -> None:
        """Leave a task that comes before all others."""
        self._tasks.appendleft(task)
        self._wake()

    def followed(self, steps: Sequence[Step], tasks: Sequence[Step]) -> Step:
        """A task that leaves others when it is done."""
        return in_turn([*steps, lambda: self._tasks.extend(tasks)] if tasks else steps)

    def awaited(self, task: Step) -> tuple[Step, Step]:
        """A task to leave, and the step that waits for its end and takes what there is meanwhile."""
        done = _thread.allocate_lock()
        done.acquire()

        def run() -> None:
            try:
                task()
            finally:
                done.release()

        def wait() -> None:
            while not done.acquire(blocking=False):
                if not self._take():
                    done.acquire()
                    return

        return run, wait

    def _wake(self) -> None:
        if self._more.locked():
            self._more.release()

    def _take(self) -> bool:
        try:
            task = self._tasks.popleft()
        except IndexError:
            return False
        task()
        return True

    def _help(self) -> None:
        while True:
            if self._take():
                continue
            if self._over:
                self._over = False
                return
            self._more.acquire()
