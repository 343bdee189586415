"""Whether a step may change the weights."""

from __future__ import annotations

from functools import partial

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.workers import Phase, shared


class Gate:
    """Whether all losses of a step are numbers: one member finds out, and all see it."""

    def __init__(self, losses: Array) -> None:
        self._losses = losses
        self._good = shared((1,), "bool").data  # its elements are plain numbers

    def find(self) -> None:
        """Find out."""
        self._good[0] = bool(np.isfinite(self._losses).all())

    @property
    def good(self) -> bool:
        """What was found."""
        return bool(self._good[0])

    def check(self) -> bool:
        """Find out and say it."""
        self.find()
        return self.good

    def guarded(self, phase: Phase) -> Phase:
        """The phase, whose tasks do nothing where they are not."""
        return [partial(_if, self._good, step) for step in phase]


def _if(good: memoryview, step: Step) -> None:
    if good[0]:
        step()
