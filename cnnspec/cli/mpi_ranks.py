"""Runs the trainings of a sweep on the ranks of an MPI job: the first rank hands them out, the others run them."""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from mpi4py import MPI

from cnnspec.cli.executors import Executor
from cnnspec.cli.trainings import POLLED, Program, Running, end, outcome_of, started
from cnnspec.diagnostics import RunError
from cnnspec.files import real_path
from cnnspec.ranks.mpi import MpiExchange
from cnnspec.signals import Ending, Interruption, handling
from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Outcome, Task
from cnnspec.train.network import usable_processors

# A message to the first rank: how a training ended, the number of a signal, or None when the rank has ended.
Report = Outcome | int | None


class MpiRanks(Executor):
    """An executor on the first rank, which gives programs to all other ranks; each of those runs one at a time.

    When its context ends, the other ranks end, and their trainings end at a checkpoint.
    """

    def __init__(self, exchange: MpiExchange, arguments: argparse.Namespace, sweep: Sweep) -> None:
        self.communicator, self.others = exchange.communicator, range(1, exchange.size)
        self.jobs, self.ended = len(self.others), False
        processors = exchange.tell(usable_processors())[1:]
        places = list(zip(exchange.hosts[1:], processors, strict=True))  # equal for ranks that share processors
        self.threads, self.threads_of_best = (
            arguments.threads or max(1, min(len(place[1]) // min(places.count(place), most) for place in places))
            for most in (self.jobs, sweep.seeds)
        )
        self.where = f" on {self.jobs} other rank{'s' * (self.jobs > 1)} ({exchange.library})"
        self.starter = ("mpiexec", "-n", str(exchange.size), "python", "-m")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def run(self, programs: Sequence[Program], done: Callable[[Task, Outcome], None], ending: Ending) -> None:
        """Run programs on the other ranks; a signal that one of those receives interrupts this rank too."""
        waiting, free, busy = deque(programs), deque(self.others), dict[int, Task]()
        try:
            while waiting or busy:
                while waiting and free:
                    rank, program = free.popleft(), waiting.popleft()
                    busy[rank] = program.task
                    self.communicator.send(replace(program, folder=real_path(program.folder)), rank)
                rank, message = self._receive(ending)
                if isinstance(message, Outcome):
                    free.append(rank)
                    done(busy.pop(rank), message)
                elif message is not None:
                    raise Interruption(message)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Tell the other ranks that no more programs follow, and wait until their trainings have ended."""
        if self.ended:
            return
        self.ended = True
        for rank in self.others:
            self.communicator.send(None, rank)
        left = set(self.others)
        while left:
            rank, message = self._receive(None)
            if message is None:
                left.remove(rank)

    def _receive(self, ending: Ending | None) -> tuple[int, Report]:
        """Wait for the next message of any rank, and return the rank's number and the message."""
        status = MPI.Status()
        while not self.communicator.iprobe(status=status):
            if ending is not None:
                ending.check()
            time.sleep(POLLED)
        message: Report = self.communicator.recv(source=status.source)
        return status.source, message


def serve(exchange: MpiExchange) -> None:
    """Run the programs that the first rank hands out, one after the other, until it sends None."""
    exchange.tell(usable_processors())
    communicator, working_folder, running = exchange.communicator, Path.cwd(), list[Running]()
    signals: list[int] = []
    with handling(lambda number, frame: signals.append(number)):
        try:
            while True:
                if communicator.iprobe(source=0):
                    program: Program | None = communicator.recv(source=0)
                    if program is None:
                        break
                    running.append(_started(program, working_folder))
                elif running and running[0].process.poll() is not None:
                    program, outcome = running[0].program, outcome_of(running.pop())
                    if outcome is None:
                        running.append(_started(replace(program, attempt=program.attempt + 1), working_folder))
                    else:
                        communicator.send(outcome, 0)
                elif signals:
                    communicator.send(signals.pop(), 0)
                else:
                    time.sleep(POLLED)
        finally:
            end(running)
        communicator.send(None, 0)


def _started(program: Program, here: Path) -> Running:
    try:
        return started(program, here)
    except OSError as error:
        raise RunError(
            f"cannot train in {here}: {error.filename}: {error.strerror}",
            "all ranks need the same cnnspec, and see the same files under the same paths",
        ) from error
