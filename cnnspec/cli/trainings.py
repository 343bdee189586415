"""Runs the trainings of a sweep as separate programs, several at a time."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from cnnspec.cli import FAILED
from cnnspec.cli.stages import PATIENCE, last_words
from cnnspec.diagnostics import RunError
from cnnspec.lock import locked
from cnnspec.ranks.launch import unlaunched
from cnnspec.signals import Ending
from cnnspec.sweep.journal import Outcome, Task
from cnnspec.train.checkpoint import LAST
from cnnspec.train.run import ABOUT, SPEC, Run

POLLED = 0.02  # seconds between two checks of the programs
ENDED = 128  # plus a signal's number: the exit code of a program that it ended
# Ends of errors that are the disk's: they say nothing about the values of a trial, which may be trained later.
DISK = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
ATTEMPTS = 2  # attempts at a training that a signal ends, such as one for lack of memory


@dataclass(frozen=True, slots=True)
class Program:
    """How a task is trained: the arguments of `train` for a new run and for a resumed one, and the run directory."""

    task: Task
    words: Sequence[str]
    further: Sequence[str]
    folder: Path
    attempt: int = 1

    def command(self) -> list[str]:
        """Return the command line; a run that has a checkpoint is resumed."""
        begun = all((self.folder / name).is_file() for name in (SPEC, ABOUT, LAST))
        words = ["--resume", str(self.folder), *self.further] if begun else self.words
        return [sys.executable, "-m", "cnnspec.cli.trial", *words]


@dataclass(slots=True)
class Running:
    """A running program."""

    program: Program
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    started: float = field(default_factory=time.monotonic)


def run_all(programs: Sequence[Program], jobs: int, done: Callable[[Task, Outcome], None], ending: Ending) -> None:
    """Run programs, `jobs` at a time, and report how each ended to `done`; an interruption ends all at a checkpoint."""
    waiting, running = deque(programs), list[Running]()
    try:
        while waiting or running:
            ending.check()
            while waiting and len(running) < jobs:
                running.append(started(waiting.popleft()))
            time.sleep(POLLED)
            for training in [training for training in running if training.process.poll() is not None]:
                running.remove(training)
                outcome = outcome_of(training)
                if outcome is None:
                    waiting.appendleft(replace(training.program, attempt=training.program.attempt + 1))
                else:
                    done(training.program.task, outcome)
    finally:
        end(running)


def started(program: Program, here: Path | None = None) -> Running:
    """Start a program, in the folder that its arguments are relative to, once no other process trains in its run."""
    folder = program.folder
    if folder.exists():
        with locked(folder, wait=True):  # a training whose sweep was just killed may still be ending
            pass
        if not (folder / LAST).is_file():
            shutil.rmtree(folder)
    errors = TemporaryFile()  # noqa: SIM115 - it is closed with the program
    # Standard input stays open as long as this process lives: cli/trial.py ends with it. In a session of its own a
    # training does not hear the Ctrl-C that is meant for the sweep.
    process = subprocess.Popen(
        program.command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
        cwd=here,
        env=unlaunched(),
    )
    return Running(program, process, errors)


def outcome_of(one: Running) -> Outcome | None:
    """Return how a program ended; None if a signal ended it, and it has to be tried again.

    RunError if the disk was full or cannot be written, which no trial is to blame for.
    """
    seconds, status = time.monotonic() - one.started, one.process.returncode
    one.errors.seek(0)
    said = one.errors.read().decode("utf-8", "replace")
    _close(one)
    folder = one.program.folder
    if status < 0 or status > ENDED:
        if one.program.attempt < ATTEMPTS:
            return None
        number = -status if status < 0 else status - ENDED
        return Outcome({}, f"ended by signal {number}, twice: is there memory for so many at once?", seconds)
    words = last_words(said).split("\n")
    message, full = words[0], next((line for line in words if line.endswith(DISK)), None)
    if status and full is not None:
        raise RunError(f"{folder.name}: {full}", "see to the disk: the same command goes on")
    try:
        about, rows = Run.existing(folder).checked()
    except RunError as error:
        return Outcome({}, message or str(error), seconds)
    unmet = about.get("unmet") or []
    if not rows or (status and not (status == FAILED and unmet)):
        return Outcome({}, message or f"exit code {status}", seconds)
    figures = {name: value for name, value in rows[-1].items() if _is_figure(name, value)}
    return Outcome(figures, "; ".join(f"required {text}" for text in unmet), seconds, rows[-1]["epoch"])


def _is_figure(name: str, value: object) -> bool:
    measured = name.startswith(("train.", "validation.", "test."))
    return measured and isinstance(value, (int, float)) and math.isfinite(value)


def end(running: Sequence[Running]) -> None:
    """End programs at their next step, or at once if that takes too long."""
    try:
        for training in running:
            training.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        for training in running:
            training.process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for training in running:
            training.process.kill()
            training.process.wait()
            _close(training)


def _close(one: Running) -> None:
    assert one.process.stdin is not None
    one.process.stdin.close()
    one.errors.close()


def settings(values: Mapping[str, str]) -> list[str]:
    """Return the arguments that set values at their paths."""
    return [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
