"""The journal of a sweep: one line of JSON for each ended training, so that none is done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded

MOST_BYTES = 256 << 20  # the most bytes of a journal


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """One training: the number of its point (0: the best point, trained again), its seed, and its epochs."""

    trial: int
    seed: int
    epochs: int | None = None  # None: those of the spec


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a training: its figures after the last epoch or its error, the seconds, and the epochs done."""

    figures: Mapping[str, float]
    error: str = ""
    seconds: float = 0.0
    epochs: float = 0.0


class Journal:
    """Outcomes by task, on disk line by line; a process must hold the folder's lock to open it."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Open or begin a journal; RunError if it is about another sweep, or damaged before its last line."""
        self.path = path
        self.outcomes: dict[Task, Outcome] = {}
        self._points: dict[int, Any] = {}  # the values that each trial was trained with
        self._lock = Lock()
        try:
            content = read_bounded(path, MOST_BYTES) if path.exists() else b""
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error
        complete_lines = content[: content.rfind(b"\n") + 1]
        lines = complete_lines.split(b"\n")[:-1]
        if len(complete_lines) < len(content):  # the sweep was killed while it wrote the last line
            os.truncate(path, len(complete_lines))
        if not lines:
            self._append(dict(about))
        for number, line in enumerate(lines, 1):
            try:
                self._take(json.loads(line), about, first=number == 1)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                cure = f"remove {path.parent} to begin the sweep anew"
                if number > 1:
                    cure = f"remove that line, and its training is done again; or {cure}"
                raise RunError(f"{path} is damaged at line {number}", cure) from error

    def _take(self, record: dict[str, Any], about: Mapping[str, Any], *, first: bool) -> None:
        if not first:
            task = Task(int(record["trial"]), int(record["seed"]), record["epochs_asked"])
            error, seconds, epochs = str(record["error"]), float(record["seconds"]), float(record["epochs"])
            self.outcomes[task] = Outcome(dict(record["figures"]), error, seconds, epochs)
            self._points[task.trial] = dict(record["values"])
        elif record != _stored(about):
            changed = [key for key in about if record.get(key) != _stored(about[key])]
            raise RunError(
                f"{self.path.parent} holds a sweep with another {' and '.join(changed) or 'content'}",
                "name another folder with --out, or remove that one",
            )

    def check_point(self, trial: int, point: Mapping[str, Any]) -> None:
        """Raise RunError if the trial was trained with other values: another SciPy or Optuna draws others."""
        trained = self._points.get(trial)
        if trained is not None and trained != _stored(point):
            raise RunError(
                f"{self.path.parent}: trial {trial} was trained with {trained}, but here {dict(point)} is drawn",
                "go on with the versions of SciPy and Optuna that began it, or name another folder with --out",
            )

    def add(self, task: Task, point: Mapping[str, Any], outcome: Outcome) -> None:
        """Add the outcome of a training with the values of a point, and flush it to the disk."""
        request = {"trial": task.trial, "values": dict(point), "seed": task.seed, "epochs_asked": task.epochs}
        ended = {"figures": dict(outcome.figures), "error": outcome.error}
        with self._lock:
            self._append({**request, **ended, "seconds": round(outcome.seconds, 3), "epochs": outcome.epochs})
            self.outcomes[task] = outcome
            self._points[task.trial] = _stored(request["values"])

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}") from error


def _stored(value: Any) -> Any:
    """Return a value as the journal gives it back."""
    return json.loads(json.dumps(value))
