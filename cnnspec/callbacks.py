"""Callbacks of `Model.fit`: they are told of steps and epochs and can end the training, but never change its bits."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from cnnspec.train.fit import Progress

__all__ = ["Callback", "History", "Progress", "ProgressLine", "StopTraining"]


class StopTraining(Exception):  # noqa: N818
    """Raise it in a callback to end the training there; what was trained so far stays."""


class Callback:
    """Base of callbacks; override the methods that you need."""

    def on_step(self, progress: Progress) -> None:
        """Called after a step: `progress` has the position, the step's loss, and means over the epoch so far."""

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Called after an epoch: `metrics` is its row of the history, such as `validation.accuracy`."""

    def on_end(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Called at the end, whatever its reason: `history` has a row for each epoch."""


class History(Callback):
    """Keeps the loss of every step in `losses` and the row of every epoch in `epochs`."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.epochs: list[Mapping[str, Any]] = []

    def on_step(self, progress: Progress) -> None:
        """Store the loss."""
        self.losses.append(progress.step_loss)

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Store the row."""
        self.epochs.append(metrics)


class ProgressLine(Callback):
    """Writes a line that is updated with the steps, and one that stays for each epoch, in terminals and notebooks."""

    def __init__(self, epochs: float, stream: TextIO | None = None) -> None:
        self.epochs, self.stream = math.ceil(epochs), stream or sys.stderr
        self.width = 0

    def on_step(self, progress: Progress) -> None:
        """Update the step, the mean loss and accuracy so far, and the speed, about a hundred times an epoch."""
        position, steps = progress.position, progress.steps
        if position.done % max(1, steps // 100) and position.done != steps:
            return
        accuracy = "" if progress.accuracy is None else f"  accuracy {progress.accuracy:.2%}"
        self._write(
            f"epoch {position.epoch}/{self.epochs}  step {position.done}/{steps}  loss {progress.loss:.4f}{accuracy}"
            f"  {progress.images_per_second:,.0f} images/s"
        )

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Write the figures of the epoch on a line that stays."""
        shown = [f"epoch {metrics['epoch']}/{self.epochs}"]
        for name in ("train.loss", "train.accuracy", "validation.loss", "validation.accuracy", "test.accuracy"):
            value = metrics.get(name)
            if value is not None:
                shown.append(f"{name} {value:.2%}" if name.endswith("accuracy") else f"{name} {value:.4f}")
        self._write("  ".join(shown))
        self.stream.write("\n")
        self.width = 0

    def on_end(self, history: Sequence[Mapping[str, Any]]) -> None:
        """End an unfinished line."""
        if self.width:
            self.stream.write("\n")
            self.width = 0

    def _write(self, text: str) -> None:
        self.stream.write(f"\r{text:<{self.width}}")
        self.stream.flush()
        self.width = len(text)


def watched() -> bool:
    """Tell whether a person sees standard error: it is a terminal, or the output of a notebook's cell."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
