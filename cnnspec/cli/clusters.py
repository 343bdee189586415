"""Runs the trainings of a sweep on the workers of a Dask cluster, each as a program of its own there."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

from distributed import Client, Event, Future, KilledWorker, LocalCluster, as_completed, wait
from distributed import TimeoutError as Late

from cnnspec.cli.stages import PATIENCE
from cnnspec.cli.trainings import POLLED, Program, end, outcome_of, started
from cnnspec.diagnostics import RunError
from cnnspec.files import real_path
from cnnspec.signals import Ending, terminal_unheard
from cnnspec.sweep.journal import Outcome, Task

CONNECTED = 30.0  # seconds within which a scheduler has to answer
LOOKS = 50  # polls of a training for each check whether the sweep has ended


def run_on_dask(
    programs: Sequence[Program],
    jobs: int,
    scheduler: str | None,
    done: Callable[[Task, Outcome], None],
    ending: Ending,
) -> None:
    """Run programs on a cluster, or on a local one of `jobs` workers, and report how each ended to `done`.

    If a worker is lost, another one continues from the last checkpoint. Once a signal has come, the programs end at a
    checkpoint. RunError if there is no scheduler at that address.
    """
    working_folder = Path.cwd()
    with _client(jobs, scheduler) as client:
        over = Event(f"cnnspec-{uuid.uuid4()}", client=client)
        waiting = {
            client.submit(
                train,
                replace(program, folder=real_path(program.folder)),
                working_folder,
                over.name,
                key=f"{over.name}-{number}",
            ): program.task
            for number, program in enumerate(programs)
        }
        try:
            completed = as_completed(waiting)
            while not completed.is_empty():
                ending.check()
                if not completed.has_ready():
                    time.sleep(POLLED)
                    continue
                future = next(completed)
                outcome = _outcome(future)
                ending.check()  # what comes after a signal may be its consequence
                done(waiting[future], outcome)
        except BaseException:
            over.set()
            with suppress(Late):
                wait(list(waiting), timeout=PATIENCE)
            raise


def _outcome(future: Future) -> Outcome:
    try:
        outcome: Outcome = future.result()
    except KilledWorker:
        return Outcome({}, "every worker that trained it was lost: is there memory for as many trainings?")
    except Exception as error:
        message = f"a worker of the Dask cluster cannot train: {type(error).__name__}: {error}"
        raise RunError(message, "workers need the same cnnspec, and see the same files under the same paths") from error
    return outcome


def places_of(scheduler: str) -> int:
    """Return the number of trainings that a cluster runs at a time: one on each thread of its workers."""
    with _client(0, scheduler) as client:
        places: int = sum(client.nthreads().values())
    if not places:
        raise RunError(f"the Dask scheduler at {scheduler} has no workers", f"start some: dask worker {scheduler}")
    return places


def train(program: Program, here: Path, over: str) -> Outcome:
    """Run one program on this worker, in a folder that all workers see; stop it if the sweep ends."""
    ended = Event(over)
    while True:
        running = started(program, here)
        try:
            looks = 0
            while running.process.poll() is None:
                time.sleep(POLLED)
                looks += 1
                if looks % LOOKS == 0 and ended.is_set():
                    raise RunError("the sweep has ended")
        except BaseException:
            end([running])
            raise
        outcome = outcome_of(running)
        if outcome is not None:
            return outcome
        program = replace(program, attempt=program.attempt + 1)


@contextmanager
def _client(jobs: int, scheduler: str | None) -> Iterator[Client]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the trainings' outcomes tell what happened to workers
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECTED)
        except (OSError, ValueError) as error:
            raise RunError(f"no Dask scheduler answers at {scheduler}: {error}", "start one: dask scheduler") from error
        with client:
            yield client
        return
    with terminal_unheard():
        resource_tracker.ensure_running()  # by itself, as its start has Ctrl-C heard again
    with terminal_unheard():  # Ctrl-C would end the workers before their trainings
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # a free port: Dask warns if its usual one is taken
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster) as client:
        yield client
