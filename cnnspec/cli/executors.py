"""What runs the trainings of a sweep: programs of this machine, a Dask cluster, or the ranks of an MPI job."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cnnspec.cli.trainings import Program, run_all
from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Outcome, Task
from cnnspec.train.network import available_cores


class Executor(ABC):
    """How many trainings run at a time and with how many threads, those of the best point too; and what runs them."""

    jobs: int
    threads: int
    threads_of_best: int
    where = ""  # it runs them, as the sweep's first line says it
    starter: Sequence[str] = ()  # the words before `cnnspec` by which the sweep was started

    @abstractmethod
    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None]) -> None:
        """Run programs and tell how each ended; where this is interrupted, they end at a checkpoint."""


class Processes(Executor):
    """Programs of this machine, which share its processors out."""

    def __init__(self, arguments: argparse.Namespace, sweep: Sweep) -> None:
        cores = available_cores()
        self.jobs = arguments.jobs or max(1, min(cores // (arguments.threads or 1), sweep.size * sweep.seeds))
        self.threads = arguments.threads or max(1, cores // self.jobs)
        self.threads_of_best = max(1, cores // min(self.jobs, sweep.seeds))

    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None]) -> None:
        """Run them here."""
        run_all(programs, self.jobs, done)


class Dask(Processes):
    """The workers of a Dask cluster at an address, or of one of this machine."""

    def __init__(self, arguments: argparse.Namespace, sweep: Sweep) -> None:
        super().__init__(arguments, sweep)
        self.scheduler: str | None = arguments.scheduler
        self.where = " on a Dask cluster of this machine"
        if self.scheduler is not None:
            from cnnspec.cli.clusters import places_of  # needs distributed, an extra

            self.where = f" on the Dask cluster at {self.scheduler}"
            self.jobs = places_of(self.scheduler)
            self.threads = self.threads_of_best = arguments.threads or 1

    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None]) -> None:
        """Run them there."""
        from cnnspec.cli.clusters import run_on_dask  # needs distributed, an extra

        if programs:
            run_on_dask(programs, self.jobs, self.scheduler, done)
