"""A part of a training, counted in passes over the training images: when parameters are trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The steps that come after `start` passes and before `stop`: of a training of 10 epochs, 0 to 10 are all."""

    start: float = 0.0
    stop: float = inf

    def __contains__(self, moment: float) -> bool:
        """Whether a step that comes after so many passes, a number with fractions, lies in it."""
        return self.start <= moment < self.stop

    def within(self, other: Period) -> Period:
        """What is in both."""
        common = Period(max(self.start, other.start), min(self.stop, other.stop))
        return common if common.start < common.stop else NEVER

    def __str__(self) -> str:
        """`from 2`, `until 5`, `from 2 until 5`, `always` or `never`."""
        if self == NEVER:
            return "never"
        parts = [f"from {self.start:g}"] if self.start else []
        parts += [f"until {self.stop:g}"] if self.stop != inf else []
        return " ".join(parts) or "always"


ALWAYS, NEVER = Period(), Period(inf, inf)
