"""A part of a training, measured in passes over the training images, in which parameters are trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The steps after `start` passes and before `stop`: for a training of 10 epochs, 0 to 10 is all of them."""

    start: float = 0.0
    stop: float = inf

    def __contains__(self, moment: float) -> bool:
        """Tell whether the period includes a step that comes after `moment` passes, which may be a fraction."""
        return self.start <= moment < self.stop

    def within(self, other: Period) -> Period:
        """Return the intersection of two periods."""
        common = Period(max(self.start, other.start), min(self.stop, other.stop))
        return common if common.start < common.stop else NEVER

    def __str__(self) -> str:
        """Return `from 2`, `until 5`, `from 2 until 5`, `always` or `never`."""
        if self == NEVER:
            return "never"
        parts = [f"from {self.start:g}"] if self.start else []
        parts += [f"until {self.stop:g}"] if self.stop != inf else []
        return " ".join(parts) or "always"


ALWAYS, NEVER = Period(), Period(inf, inf)
