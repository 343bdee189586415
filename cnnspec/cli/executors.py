"""Executors of a sweep's trainings: programs of this machine, a Dask cluster, or the ranks of an MPI job."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cnnspec.cli.trainings import Program, run_all
from cnnspec.signals import Ending
from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Outcome, Task
from cnnspec.train.network import available_cores


class Executor(ABC):
    """Runs the trainings of a sweep, `jobs` at a time; each has `threads`, one of the best point `threads_of_best`."""

    jobs: int
    threads: int
    threads_of_best: int
    where = ""  # phrase for the place of the trainings, in the sweep's first line
    starter: Sequence[str] = ()  # the command before `cnnspec` that started the sweep

    @abstractmethod
    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None], ending: Ending) -> None:
        """Run programs, and report how each ended to `done`; once a signal has come, end them at a checkpoint."""


class Processes(Executor):
    """Runs trainings as programs on this machine, which divide its processors among them."""

    def __init__(self, arguments: argparse.Namespace, sweep: Sweep) -> None:
        cores = available_cores()
        self.jobs = arguments.jobs or max(1, min(cores // (arguments.threads or 1), sweep.size * sweep.seeds))
        self.threads = arguments.threads or max(1, cores // self.jobs)
        self.threads_of_best = max(1, cores // min(self.jobs, sweep.seeds))

    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None], ending: Ending) -> None:
        """Run the programs on this machine."""
        run_all(programs, self.jobs, done, ending)


class Dask(Processes):
    """Runs trainings on the workers of a Dask cluster, at an address or on this machine."""

    def __init__(self, arguments: argparse.Namespace, sweep: Sweep) -> None:
        super().__init__(arguments, sweep)
        self.scheduler: str | None = arguments.scheduler
        self.where = " on a Dask cluster of this machine"
        if self.scheduler is not None:
            from cnnspec.cli.clusters import places_of  # needs distributed, an extra

            self.where = f" on the Dask cluster at {self.scheduler}"
            self.jobs = places_of(self.scheduler)
            self.threads = self.threads_of_best = arguments.threads or 1

    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None], ending: Ending) -> None:
        """Run the programs on the cluster."""
        from cnnspec.cli.clusters import run_on_dask  # needs distributed, an extra

        if not programs:
            return
        try:
            run_on_dask(programs, self.jobs, self.scheduler, done, ending)
        except Exception:
            ending.check()  # a terminal sends the signal to the processes of the cluster too, which then fail
            raise
