"""The work between two steps of a training: due checkpoints, the record of the first losses, the end on a signal."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from cnnspec.signals import Interruption, handling
from cnnspec.train.fit import Position, Progress
from cnnspec.train.network import Network
from cnnspec.train.run import Run

TRACED = 20  # the first steps whose losses a run records for `verify`


class Session:
    """One run of `train`: `watch` is called after every step, `between_epochs` after every epoch.

    `about` is the content of run.json, with the first losses as exact text by step, and the weights' fingerprint. Of
    several ranks only one has a `run` to write to; all end after the same step if any of them gets a signal.
    """

    def __init__(self, run: Run | None, model: Network, about: dict[str, Any]) -> None:
        assert model.spec.train is not None
        self.run, self.model, self.about = run, model, about
        self.count, self.unit = model.spec.train.checkpoint.every
        self.trace: dict[str, str] = about.setdefault("trace", {})
        self.written = time.monotonic()
        self.signal: int | None = None

    def watch(self, progress: Progress) -> None:
        """Record the loss, write a checkpoint if one is due; Interruption if a signal has come."""
        position = progress.position
        if position.step <= TRACED:
            self.trace[str(position.step)] = progress.step_loss.hex()
            if position.step == TRACED:
                self.trace["weights"] = self.model.fingerprint()
        due = (self.unit == "steps" and position.step % self.count == 0) or (
            self.unit == "minutes" and time.monotonic() - self.written >= 60 * self.count
        )
        if self.run is not None and (due or progress.asked):
            self.run.describe(self.about)  # first, so that the trace has all steps up to the checkpoint
            self.run.checkpoint(self.model, position)
            self.written = time.monotonic()
        if progress.asked:
            raise Interruption(progress.asked)

    def asked(self) -> int:
        """Return the signal that has come to this process, or 0."""
        return self.signal or 0

    def between_epochs(self, position: Position, epochs: float) -> None:
        """Raise Interruption if a signal came while an epoch was scored, and another epoch is left."""
        signal_number = max(signal for (signal,) in self.model.exchange.numbers(self.asked()))
        if signal_number and position.epoch <= epochs:
            if self.run is not None:
                self.run.finish(self.model, position)
            raise Interruption(signal_number)

    def signals(self) -> AbstractContextManager[None]:
        """End the training after the running step on SIGINT, SIGTERM or SIGHUP; a second one ends it at once."""
        return handling(self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
