"""The check that keeps an update from being made of a loss that is no number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.workers import shared


class LossCheck:
    """Whether all losses of a step are numbers: where one is not, no task changes the weights."""

    def __init__(self, losses: Array) -> None:
        self._losses = losses
        self._finite = shared((1,), "bool").data  # its elements are plain numbers, which are read faster

    def find(self) -> None:
        """Look at the losses."""
        self._finite[0] = bool(np.isfinite(self._losses).all())

    @property
    def finite(self) -> bool:
        """What was found."""
        return bool(self._finite[0])

    def guarded(self, steps: Sequence[Step]) -> list[Step]:
        """Steps that do nothing where a loss is no number."""
        return [partial(_if, self._finite, in_turn(steps))]


def _if(finite: memoryview, step: Step) -> None:
    if finite[0]:
        step()
