"""The check that keeps the weights from being updated by a loss that is not a finite number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cnnspec.kernels.step import Array, Step, join_steps
from cnnspec.workers import shared


class LossCheck:
    """Checks that all losses of a step are finite: if one is not, no task changes the weights."""

    def __init__(self, losses: Array) -> None:
        self._losses = losses
        self._finite = shared((1,), "bool").data  # its elements are plain numbers, which are read faster

    def run(self) -> None:
        """Check the losses, and store whether all are finite."""
        self._finite[0] = bool(np.isfinite(self._losses).all())

    @property
    def finite(self) -> bool:
        """Whether all losses were finite at the last check."""
        return bool(self._finite[0])

    def guard(self, steps: Sequence[Step]) -> list[Step]:
        """Return these steps as one, which does nothing if a loss is not finite."""
        return [partial(_run_if, self._finite, join_steps(steps))]


def _run_if(finite: memoryview, step: Step) -> None:
    if finite[0]:
        step()
