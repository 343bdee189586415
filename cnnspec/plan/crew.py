"""The members of a team beside the caller: processes that have forked from it, or threads."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain, count, groupby, permutations
from typing import NoReturn, Protocol

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Step
from cnnspec.plan.memory import shared

Phase = Sequence[Step]
Phases = Sequence[Phase]
Member = Callable[[int], AbstractContextManager[None]]  # the state in which member i works

IGNORED = (signal.SIGINT, signal.SIGTERM)  # by members: sent to a group of processes, they are the caller's business
SECONDS = 0.5  # of sleep, until one looks whether the others are still there


class Semaphore(Protocol):
    """What `threading` and `multiprocessing` have in common."""

    def acquire(self, blocking: bool = True, timeout: float | None = None, /) -> bool:
        """Take one, or say that there is none."""

    def release(self) -> None:
        """Give one."""


class Crew(ABC):
    """Members 1 to size - 1. They know `programs` and no others, and end when told so, or with the caller.

    A phase of one task is the caller's. Neighbouring phases of more are a stretch, which all begin when the caller says
    so; from one phase of it to the next each tells all others, which takes half as long as by way of the caller.
    """

    looks: int  # at a semaphore before going to sleep

    def __init__(self, size: int, programs: Sequence[Phases], member: Member) -> None:
        self._size, self._member = size, member
        self._stretches: list[list[Phase]] = []  # of all programs
        self._courses: list[list[tuple[int | None, list[Phase]]]] = []  # of each, its stretches by their numbers
        for phases in programs:
            parts = [(several, list(part)) for several, part in groupby(phases, lambda phase: len(phase) > 1)]
            numbers = count(len(self._stretches))
            self._courses.append([(next(numbers) if several else None, part) for several, part in parts])
            self._stretches += [part for several, part in parts if several]
        self._own = self._tasks_of(0)
        self._go, self._done = ([self.semaphore() for _ in range(size - 1)] for _ in range(2))
        arrivals = {pair: self.semaphore() for pair in permutations(range(size), 2)}  # of the first, for the second
        self._told = [[arrivals[own, other] for other in range(size) if other != own] for own in range(size)]
        self._heard = [[arrivals[other, own] for other in range(size) if other != own] for own in range(size)]
        self._command = shared((1,), "int64").data  # which stretch; its elements are plain numbers
        self._broken = shared((1,), "int64").data  # whether a task of the stretch has failed
        self._asleep = shared((size,), "int64").data

    def _tasks_of(self, index: int) -> list[list[Phase]]:
        return [[phase[index :: self._size] for phase in stretch] for stretch in self._stretches]

    def run(self, program: int) -> None:
        """All phases of a program, in order; an exception in any task is raised here, and no phase comes after it."""
        for number, phases in self._courses[program]:
            if number is None:
                for phase in phases:
                    for task in phase:
                        task()
                continue
            self._let(number)
            try:
                self._work(0, self._own[number])
            finally:
                self.wait()

    def _let(self, command: int) -> None:
        self._command[0] = command
        for go in self._go:
            go.release()

    def wait(self) -> None:
        """Until all are done; an error of theirs is raised here."""
        for done in self._done:
            self.pause(done)
        if self._broken[0]:
            self._mend()
        error = self._error()
        if error is not None:
            raise error

    def _work(self, index: int, phases: Sequence[Phase]) -> None:
        """A member's tasks of a stretch. Where one failed, all others leave when they next meet."""
        try:
            for position, tasks in enumerate(phases):
                if position and not self._meet(index):
                    return
                for task in tasks:
                    task()
        except BaseException:
            self._leave(index)
            raise

    def _meet(self, index: int) -> bool:
        """Tell all others and hear from all; whether to go on."""
        for told in self._told[index]:
            told.release()
        for heard in self._heard[index]:
            self.pause(heard)
        if self._broken[0]:
            self._leave(index)
            return False
        return True

    def _leave(self, index: int) -> None:
        """Let nobody wait for a member that is no longer there: it tells all others once more."""
        self._broken[0] = 1
        for told in self._told[index]:
            told.release()

    def _mend(self) -> None:
        """Forget what was told too often, when all are done."""
        for told in chain.from_iterable(self._told):
            while told.acquire(False):
                pass
        self._broken[0] = 0

    @property
    def awake(self) -> bool:
        """Whether all members are looking for their next task."""
        return not any(self._asleep)

    def pause(self, until: Semaphore) -> None:
        """Wait for a semaphore, as long as those who could release it are there."""
        if not self._seen(until):
            self._sleep(until)

    def _seen(self, until: Semaphore) -> bool:
        for _ in range(self.looks):  # noqa: SIM110  a generator takes three times as long
            if until.acquire(False):
                return True
        return False

    def _sleep(self, until: Semaphore) -> None:
        while not until.acquire(True, SECONDS):
            self._look_after()

    @staticmethod
    @abstractmethod
    def semaphore(value: int = 0) -> Semaphore:
        """One that all members of such a crew see, if it is made before them."""

    @abstractmethod
    def begin(self) -> None:
        """Make the members; OSError where the system refuses."""

    @abstractmethod
    def end(self) -> None:
        """Tell the members to end."""

    @abstractmethod
    def _error(self) -> BaseException | None:
        """What a member has reported, once."""

    @abstractmethod
    def _report(self, error: BaseException) -> None:
        """Leave an error for the caller."""

    @abstractmethod
    def _look_after(self) -> None:
        """Raise where a member has died; end where the caller has."""

    def _serve(self, index: int) -> None:
        """What a member does, until `_command` names no phase."""
        go, done = self._go[index - 1], self._done[index - 1]
        own = self._tasks_of(index)
        with self._member(index):
            while True:
                if not self._seen(go):
                    self._asleep[index] = 1
                    self._sleep(go)
                    self._asleep[index] = 0
                command = self._command[0]
                if command < 0:
                    return
                try:
                    self._work(index, own[command])
                except BaseException as error:
                    self._report(error)
                finally:
                    done.release()


class Threads(Crew):
    """Members of the caller's process: whoever comes back from NumPy waits for the interpreter's lock."""

    looks = 0  # who looks holds the interpreter's lock, which the others need

    def __init__(self, size: int, programs: Sequence[Phases], member: Member) -> None:
        super().__init__(size, programs, member)
        self._errors: list[BaseException] = []

    @staticmethod
    def semaphore(value: int = 0) -> Semaphore:
        """An ordinary one."""
        return threading.Semaphore(value)

    def begin(self) -> None:
        """Start threads that end with the process at the latest."""
        for index in range(1, self._size):
            threading.Thread(target=self._serve, args=(index,), daemon=True, name=f"cnnspec-{index}").start()

    def end(self) -> None:
        """Each looks at the command when it is let go."""
        self._leave(0)
        self._let(-1)

    def _error(self) -> BaseException | None:
        return self._errors.pop() if self._errors else None

    def _report(self, error: BaseException) -> None:
        self._errors.append(error)

    def _look_after(self) -> None:
        """Threads live as long as the process."""


class Processes(Crew):
    """Members that have forked from the caller: the same arrays, no lock between them, and a meeting takes 1 us.

    Errors: RunError where one of them was killed.

    They hold nothing that the caller has open, so that locks on files and the ends of pipes go when it goes.
    """

    looks = 5000  # 0.5 ms, five times what it takes to be woken: most waits at a meeting are shorter

    def __init__(self, size: int, programs: Sequence[Phases], member: Member) -> None:
        super().__init__(size, programs, member)
        self._caller = os.getpid()
        self._failed = shared((1,), "int64").data
        self._errors, self._reports = os.pipe()
        self._pids: list[int] = []
        self._end = weakref.finalize(self, _end, self._caller, self._pids, (self._errors, self._reports))

    @staticmethod
    def semaphore(value: int = 0) -> Semaphore:
        """One in shared memory; OSError where the system has none."""
        return multiprocessing.get_context("fork").Semaphore(value)

    @classmethod
    def supported(cls) -> bool:
        """Whether this system can: elsewhere than on Linux its matrix products may not survive a fork."""
        try:
            return sys.platform == "linux" and cls.semaphore() is not None
        except (OSError, ImportError):
            return False

    def begin(self) -> None:
        """Fork."""
        with warnings.catch_warnings():
            # Python and JAX warn of forks beside threads: they are safe for one who takes none of those threads' locks.
            warnings.simplefilter("ignore")
            before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # none may arrive before it is ignored
            try:
                for index in range(1, self._size):
                    pid = os.fork()
                    if pid == 0:
                        self._live(index)
                    self._pids.append(pid)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        """At once: what they hold is the caller's too."""
        self._end()

    def _live(self, index: int) -> NoReturn:
        """The whole life of a forked process: nothing of the caller's may run in it, not even its way out."""
        status = 1
        try:
            for number in IGNORED:
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            gc.disable()
            nothing = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(nothing, standard)
            os.closerange(3, self._reports)
            os.closerange(self._reports + 1, os.sysconf("SC_OPEN_MAX"))
            self._serve(index)
            status = 0
        finally:
            os._exit(status)

    def _error(self) -> BaseException | None:
        if not self._failed[0]:
            return None
        self._failed[0] = 0
        error = pickle.loads(os.read(self._errors, 1 << 16))
        assert isinstance(error, BaseException)
        return error

    def _report(self, error: BaseException) -> None:
        try:
            message = pickle.dumps(error)
        except Exception:
            message = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        os.write(self._reports, message)
        self._failed[0] = 1

    def _look_after(self) -> None:
        if os.getpid() != self._caller:
            if os.getppid() != self._caller:
                os._exit(1)
            return
        for pid in self._pids:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise RunError(
                    f"process {pid}, which computed a part of every batch, was ended from outside",
                    help="memory may have run out; a training goes on with --resume",
                )


def _end(caller: int, pids: Sequence[int], files: Sequence[int]) -> None:
    if os.getpid() != caller:
        return
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for file in files:
        os.close(file)
