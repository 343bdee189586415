"""What nobody waits for: gradients and updates beside the way back from the loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cnnspec.kernels.step import Step, in_turn
from cnnspec.plan.crew import Phase, Semaphore
from cnnspec.plan.memory import shared
from cnnspec.plan.team import Team

FIRST, END, OVER = range(3)  # of the queue's state


class Backlog:
    """Tasks that members leave on their way. Whoever is free takes the next; at the end all help.

    Members meet only where one needs a result of the other, so that unequal tasks cost no waiting. Tasks are made
    before the team begins, and known by their numbers; the queue of those that wait lies in shared memory.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._tasks: list[Step] = []
        self._free = team.semaphore(1)  # whether nobody is at the queue
        self._more = [team.semaphore() for _ in range(team.size)]  # released when a member may find something
        self._state = shared((3,), "int64").data  # its elements are plain numbers, at a third of the time
        self._queue = shared((0,), "int64").data
        self._programs: list[int] = []  # that pass each place
        self._passed = shared((0,), "int64").data  # how many have

    def task(self, step: Step) -> int:
        """Make a task that can be left, of which this is the number."""
        self._tasks.append(step)
        return len(self._tasks) - 1

    def followed(self, steps: Sequence[Step], then: Step | None) -> list[int]:
        """Tasks in any order, behind the last of which comes `then`."""
        return self.leaving([(step, ()) for step in steps], then)

    def leaving(self, tasks: Sequence[tuple[Step, Sequence[Step]]], then: Step | None) -> list[int]:
        """Tasks in any order, each of which leaves more of them, behind the last of which comes `then`."""
        if not tasks:
            return [] if then is None else [self.task(then)]
        end = [] if then is None else [self.passed(sum(1 + len(left) for _, left in tasks), then)]
        numbers = []
        for step, left in tasks:
            leave = [partial(self.last, [self.task(in_turn([one, *end])) for one in left])] if left else []
            numbers.append(self.task(in_turn([step, *leave, *end])))
        return numbers

    def passed(self, programs: int, then: Step) -> Step:
        """The step with which each of some programs says that it has come so far; the last one goes on with `then`."""
        place = len(self._programs)
        self._programs.append(programs)

        def step() -> None:
            self._team.pause(self._free)
            try:
                self._passed[place] += 1
                last = self._passed[place] == programs
            finally:
                self._free.release()
            if last:
                then()

        return step

    def ending(self, tasks: Phase, end: Step) -> Phase:
        """Tasks each of which comes to an `end` in the sense of `passed`, and behind them the help of every member.

        One of them must say that it is over, and `reset` must have come in a phase before all that leave something.
        """
        self._queue = shared((2 * len(self._tasks) + 1,), "int64").data  # all tasks and places are known
        self._passed = shared((len(self._programs),), "int64").data
        return [
            *(partial(self._ended, task, end) for task in tasks),
            *(partial(self._help, more) for more in self._more),
        ]

    def _ended(self, task: Step, end: Step) -> None:
        try:
            task()
            end()
        except BaseException:
            self.last((), over=True)
            raise

    def last(self, tasks: Sequence[int], *, over: bool = False) -> None:
        """Leave tasks that come after all others, maybe the last ones."""
        self._team.pause(self._free)
        try:
            for task in tasks:
                self._queue[self._state[END]] = task
                self._state[END] += 1
            if over:
                self._state[OVER] = True
            self._call()
        finally:
            self._free.release()

    def next(self, *tasks: int) -> None:
        """Leave tasks that come before all others."""
        self._team.pause(self._free)
        try:
            for task in reversed(tasks):
                self._state[FIRST] -= 1
                self._queue[self._state[FIRST]] = task
        finally:
            self._free.release()
        self._call()

    def _call(self) -> None:
        for more in self._more:
            more.release()

    def _take(self) -> bool:
        self._team.pause(self._free)
        try:
            first = self._state[FIRST]
            if first == self._state[END]:
                return False
            task = self._tasks[self._queue[first]]
            self._state[FIRST] = first + 1
        finally:
            self._free.release()
        try:
            task()
        except BaseException:
            self.last((), over=True)
            raise
        return True

    def _help(self, more: Semaphore) -> None:
        over = False
        while not over:
            self._team.pause(more)
            while self._take():
                pass
            over = bool(self._state[OVER])

    def reset(self) -> None:
        """Begin anew, whatever a run has left that failed: in a phase before, while nobody is at the queue."""
        for semaphore in (*self._more, self._free):
            while semaphore.acquire(False):
                pass
        middle = len(self._tasks)
        self._state[FIRST] = self._state[END] = middle
        self._state[OVER] = False
        for place in range(len(self._passed)):
            self._passed[place] = 0
        self._free.release()
