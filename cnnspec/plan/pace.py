"""Whether a short program is faster on all members or on the caller alone, found out while it runs.

Two processors may be two threads of one core, or share theirs with neighbours who come and go: then meetings cost more
than they gain. Results do not depend on who runs a task, so the faster way is tried from time to time and taken.
"""

from __future__ import annotations

from math import inf

BRIEF = 2e-3  # seconds: longer programs are all members' work, and shorter ones leave nobody time to be moved
PERIOD = 1024  # runs from one trial to the next
FIRST = 64  # runs until the first one
BURST = 8  # runs of either way in a trial
HOPELESS, LOST = 3, 1.2  # a way is given up after so many runs that all take so many times as long


class Pace:
    """The way of one program, and what its trials have found."""

    def __init__(self) -> None:
        self._together, self._until = True, FIRST
        self._seconds = inf
        self._least: list[float] = []  # of the usual way, then of the other one, in the trial that goes on
        self._runs = 0  # in this part of the trial

    @property
    def together(self) -> bool:
        """Whether the next run is all members'."""
        return self._together != (len(self._least) == 2)

    @property
    def brief(self) -> bool:
        """Whether the last run was."""
        return self._seconds < BRIEF

    def note(self, seconds: float) -> None:
        """Take the time of a run into account."""
        self._seconds = seconds
        if not self._least:
            self._until -= 1
            if self._until <= 0 and self.brief:
                self._least, self._runs = [inf], 0
            return
        self._least[-1] = min(self._least[-1], seconds)
        self._runs += 1
        if len(self._least) == 1:
            if self._runs == BURST:
                self._least, self._runs = [*self._least, inf], 0
            return
        usual, other = self._least
        if self._runs == BURST or (self._runs == HOPELESS and other > LOST * usual):
            self._together = self._together == (usual <= other)
            self._least, self._until = [], PERIOD
