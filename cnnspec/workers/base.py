"""The base of workers that are processes and of workers that are threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from cnnspec.diagnostics import RunError
from cnnspec.workers.barrier import Barrier, Semaphore
from cnnspec.workers.program import Phase, Program, stretches
from cnnspec.workers.shared_memory import shared

__all__ = ["END", "Semaphore", "State", "Workers"]

State = Callable[[int], AbstractContextManager[None]]  # the context that worker i enters before it works

END = -1  # the command to end, in place of the number of a stretch
PATIENCE = 0.5  # seconds of sleep after which a worker checks whether the others still live


class Workers(ABC):
    """Workers 1 to size - 1; the caller is worker 0. They run the programs that they were made with.

    A phase of one task is run by the caller. All workers begin a stretch of larger phases when the caller says so; a
    barrier separates its phases, and the caller waits for all at its end. Task i of a phase is run by worker i modulo
    the number of workers.
    """

    polls: int  # how often a worker looks at a semaphore before it goes to sleep

    def __init__(self, size: int, programs: Sequence[Program], state: State) -> None:
        self._size, self._state = size, state
        self._stretches: list[Sequence[Phase]] = []  # the parallel stretches of all programs
        self._programs: list[list[tuple[int | None, Sequence[Phase]]]] = []  # numbers in that list; None: the caller's
        for program in programs:
            numbered: list[tuple[int | None, Sequence[Phase]]] = []
            for stretch in stretches(program):
                numbered.append((len(self._stretches) if stretch.parallel else None, stretch.phases))
                if stretch.parallel:
                    self._stretches.append(stretch.phases)
            self._programs.append(numbered)
        self._own_tasks = self._tasks_of(0)
        self._go, self._done = ([self.semaphore() for _ in range(size - 1)] for _ in range(2))
        self._barrier = Barrier(size, self.semaphore)
        self._command = shared((1,), "int64").data  # the number of a stretch, or END
        self._asleep = shared((size,), "int64").data
        self.busy = False  # whether a stretch was begun and not ended: workers may be in the midst of it

    def _tasks_of(self, index: int) -> list[list[Phase]]:
        return [[phase[index :: self._size] for phase in phases] for phases in self._stretches]

    def run(self, program: int) -> None:
        """Run all phases of a program in order; an exception in any task is raised here, and ends the program."""
        for number, phases in self._programs[program]:
            if number is None:
                for phase in phases:
                    for task in phase:
                        task()
                continue
            self.busy = True
            self._send(number)
            try:
                self._work(0, self._own_tasks[number])
            except KeyboardInterrupt:  # it may come between any two instructions: the pool ends the workers
                raise
            except BaseException:
                self._join()
                raise
            self._join()

    def _send(self, command: int) -> None:
        self._command[0] = command
        for go in self._go:
            go.release()

    def _join(self) -> None:
        """Wait until all workers have ended the stretch, and raise the error of one that failed."""
        for done in self._done:
            self.wait(done)
        self.busy = False
        self._barrier.mend()
        error = self._error()
        if error is not None:
            raise error

    def _work(self, index: int, phases: Sequence[Phase]) -> None:
        """Run a worker's tasks of a stretch. If one of them fails, all other workers leave at their next barrier."""
        try:
            for position, tasks in enumerate(phases):
                if position and not self._barrier.wait(index, self.wait):
                    return
                for task in tasks:
                    task()
        except BaseException:
            self._barrier.break_(index)
            raise

    @property
    def awake(self) -> bool:
        """Whether no worker sleeps, so that none has to be woken for the next stretch."""
        return not any(self._asleep)

    def wait(self, semaphore: Semaphore) -> None:
        """Take one unit of a semaphore, while the processes that could release it live."""
        if not self._poll(semaphore):
            self._sleep(semaphore)

    def _poll(self, semaphore: Semaphore) -> bool:
        for _ in range(self.polls):  # noqa: SIM110  a generator takes three times as long
            if semaphore.acquire(False):
                return True
        return False

    def _sleep(self, semaphore: Semaphore) -> None:
        while not semaphore.acquire(True, PATIENCE):
            try:
                self._check()
            except RunError:
                if semaphore.acquire(False):  # it was released since, and whoever released it ended
                    return
                raise

    def _serve(self, index: int) -> None:
        """Run stretches as worker `index` until the command says END."""
        go, done = self._go[index - 1], self._done[index - 1]
        tasks_of_stretches = self._tasks_of(index)
        with self._state(index):
            while True:
                if not self._poll(go):
                    self._asleep[index] = 1
                    self._sleep(go)
                    self._asleep[index] = 0
                command = self._command[0]
                if command == END:
                    return
                try:
                    self._work(index, tasks_of_stretches[command])
                except BaseException as error:
                    self._report(error)
                finally:
                    done.release()

    @staticmethod
    @abstractmethod
    def semaphore(value: int = 0) -> Semaphore:
        """Make a semaphore that workers share if they begin later; OSError if the system refuses."""

    @abstractmethod
    def begin(self) -> None:
        """Start the workers; OSError if the system refuses."""

    @abstractmethod
    def end(self) -> None:
        """End the workers, also in the midst of a stretch."""

    @abstractmethod
    def _error(self) -> BaseException | None:
        """Return an error that a worker has reported, and forget it."""

    @abstractmethod
    def _report(self, error: BaseException) -> None:
        """Leave a worker's error for the caller."""

    @abstractmethod
    def _check(self) -> None:
        """Raise an error or end, if waiting is in vain since another worker or the caller is gone."""
