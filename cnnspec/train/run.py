"""The run directory: what one training leaves behind for a person."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.train.checkpoint import write_checkpoint
from cnnspec.train.fit import Epoch
from cnnspec.train.model import Model

SPEC, METRICS_CSV, METRICS_JSONL, ABOUT, LAST, BEST = (
    "spec.yaml",
    "metrics.csv",
    "metrics.jsonl",
    "run.json",
    "last.npz",
    "best.npz",
)


class Run:
    """A directory `runs/NAME`, or `NAME-2`, `NAME-3`... where that exists: nothing is ever overwritten."""

    def __init__(self, parent: Path, name: str) -> None:
        self.path = _claim(parent, name)
        self._best: tuple[float, float] | None = None

    def begin(self, model: Model, spec: str, about: Mapping[str, Any]) -> None:
        """Write the resolved spec, what is known before the first step, and the initial weights as `last`."""
        self._write(SPEC, spec)
        self.describe(about)
        write_checkpoint(self.path / LAST, model.weights, model.training, {"epoch": 0, "step": 0})

    def record(self, model: Model, epoch: Epoch) -> bool:
        """Add an epoch to the metrics and write its checkpoints; whether it was the best so far.

        Best is the highest validation accuracy, or the lowest training loss where nothing was set apart to validate.
        """
        row = epoch.metrics()
        try:
            new = not (self.path / METRICS_CSV).exists()
            with (self.path / METRICS_CSV).open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            with (self.path / METRICS_JSONL).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {error.filename}: {error.strerror}") from error
        progress = {"epoch": epoch.epoch, "step": epoch.step, "metrics": row}
        write_checkpoint(self.path / LAST, model.weights, model.training, progress)
        rank = _rank(epoch)
        better = self._best is None or rank > self._best
        if better:
            self._best = rank
            write_checkpoint(self.path / BEST, model.weights, model.training, progress)
        return better

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write run.json: versions, data, command, timings, results."""
        self._write(ABOUT, json.dumps(about, indent=2) + "\n")

    def _write(self, name: str, content: str) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {self.path / name}: {error.strerror}") from error


def _rank(epoch: Epoch) -> tuple[float, float]:
    score = epoch.validation or epoch.train
    loss = -(score.loss or 0.0)
    return (score.accuracy or 0.0, loss) if epoch.validation else (loss, 0.0)


def _claim(parent: Path, name: str) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = parent / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path
    except OSError as error:
        raise RunError(
            f"cannot make a run directory in {parent}: {error.strerror}", "choose another with --out"
        ) from error
