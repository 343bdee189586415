"""A fixed team that runs phases of tasks on shared memory; who runs a task never changes its result."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import set_step_state, step_state
from cnnspec.plan.crew import Crew, Phases, Processes, Semaphore, Threads
from cnnspec.plan.pace import Pace

PROGRAMS = 24  # that a crew is told of: the latest


class Team:
    """Task i of a phase is run by member i modulo the team's size; the caller is member 0. Between phases all meet.

    The others are processes that have forked from the caller, where the system is good at that, and threads elsewhere.
    They know what was announced by `learn` before they began; for anything else there is a new crew. Each member keeps
    to its share of the processors: else one may be woken on the processor of the one that wakes it, where both run in
    turn.
    """

    def __init__(self, size: int, made: type[Crew] | None = None) -> None:
        self.size = size
        self._made = made or (Processes if size > 1 and Processes.supported() else Threads)
        self._shares = _processors(size)
        self._programs: list[Phases] = []
        self._numbers: dict[int, int] = {}  # of the programs, by their identity
        self._crew: Crew | None = None
        self._owner = os.getpid()
        self._paces: list[Pace] = []  # of the programs
        self._context = copy_context()  # entered in a tenth of a microsecond
        self._context.run(set_step_state)

    def learn(self, *programs: Phases) -> None:
        """Announce what will be run, so that one crew knows all of it."""
        new = [phases for phases in programs if self._together(phases) and id(phases) not in self._numbers]
        if new:
            self.close()
            self._programs = [*self._programs, *new][-PROGRAMS:]
            self._paces = [*self._paces, *(Pace() for _ in new)][-PROGRAMS:]
            self._numbers = {id(phases): number for number, phases in enumerate(self._programs)}

    def run(self, phases: Phases) -> None:
        """Run all phases, in order; an exception in any task is raised here, behind its phase."""
        number = self._numbers.get(id(phases))
        if number is None:
            if not self._together(phases):
                self._context.run(_alone, phases)
                return
            self.learn(phases)
            number = self._numbers[id(phases)]
        crew = self._ready()
        pace, started = self._paces[number], time.perf_counter()
        if not pace.together:
            self._context.run(_alone, phases)
        elif pace.brief and crew.awake:  # nobody moves them meanwhile, and to keep one takes as long as a small layer
            self._run(crew, number)
        else:
            with _kept(self._shares, 0):
                self._run(crew, number)
        pace.note(time.perf_counter() - started)

    def _run(self, crew: Crew, number: int) -> None:
        try:
            self._context.run(crew.run, number)
        except (KeyboardInterrupt, RunError):  # nobody knows where the members are
            self.close()
            raise

    @property
    def forks(self) -> bool:
        """Whether its members are processes, to meet which takes about a microsecond."""
        return self._made is Processes

    def semaphore(self, value: int = 0) -> Semaphore:
        """One for tasks to wait with, to be made before the team runs them."""
        return self._made.semaphore(value)

    def pause(self, until: Semaphore) -> None:
        """Wait for what another member releases, within a task."""
        if self._crew is None:
            until.acquire()
        else:
            self._crew.pause(until)

    def close(self) -> None:
        """Let the members end; for further work there will be others."""
        crew, self._crew = self._crew, None
        if crew is not None and self._owner == os.getpid():
            crew.end()

    def __del__(self) -> None:
        self.close()

    def _together(self, phases: Phases) -> bool:
        return self.size > 1 and any(len(phase) > 1 for phase in phases)

    def _ready(self) -> Crew:
        """A crew that knows all programs."""
        if self._owner != os.getpid():  # this process has itself forked from the one whose crew that is
            self._crew, self._owner = None, os.getpid()
        return self._crew or self._begin()

    def _begin(self) -> Crew:
        """A new crew, which its members find here too when they have forked: they pause as it does."""
        settings = self.size, tuple(self._programs), partial(_member, self._shares)
        self._crew = crew = self._made(*settings)
        try:
            crew.begin()
        except OSError:  # no room for one more process
            self._crew = crew = Threads(*settings)
            crew.begin()
        return crew


def _alone(phases: Phases) -> None:
    for phase in phases:
        for task in phase:
            task()


@contextmanager
def _member(shares: Sequence[set[int]], index: int) -> Iterator[None]:
    """The state in which a member works; it must not hold the team, whose end is the members'."""
    with step_state(), _kept(shares, index):
        yield


@contextmanager
def _kept(shares: Sequence[set[int]], index: int) -> Iterator[None]:
    """The calling thread on its share of the processors."""
    if not shares:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, shares[index])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _processors(count: int) -> list[set[int]]:
    """The processors that this process may use in equal shares; none where too few or unknown."""
    if count == 1 or not hasattr(os, "sched_setaffinity"):
        return []
    usable = sorted(os.sched_getaffinity(0))
    each = len(usable) // count
    return [set(usable[i * each : (i + 1) * each]) for i in range(count)] if each else []
