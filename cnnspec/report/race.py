"""Several programs for one task, measured in alternation: the machine's drift meets them all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Program = Callable[[], object]
WARM = 2  # runs before the first that counts in a round: threads and caches of the one before have to leave


@dataclass(frozen=True)
class Race:
    """Seconds a run of each program, round by round; `own` is the one that the others are held against."""

    own: str
    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """A program's median over the rounds."""
        return statistics.median(self.seconds[name])

    @property
    def best(self) -> str:
        """The fastest of the others."""
        return min((name for name in self.seconds if name != self.own), key=self.median)

    def ratios(self, other: str) -> tuple[float, ...]:
        """How many times as fast as another one the own program was, round by round, from low to high."""
        pairs = zip(self.seconds[other], self.seconds[self.own], strict=True)
        return tuple(sorted(theirs / own for theirs, own in pairs))


def race(
    programs: Mapping[str, Program],
    own: str,
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    progress: Program = lambda: None,
) -> Race:
    """Let all run in turn, every round each for about so many seconds."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds):
        for name in _order(list(programs), turn):
            found[name].append(_measure(programs[name], seconds))
        progress()
    return Race(own, {name: tuple(values) for name, values in found.items()})


def _order(names: list[str], turn: int) -> Iterator[str]:
    """Another one goes first every round, so that nobody always follows the same one."""
    start = turn % len(names)
    yield from names[start:] + names[:start]


def _measure(program: Program, seconds: float) -> float:
    """The median seconds of a run."""
    for _ in range(WARM):
        program()
    runs: list[float] = []
    end = time.perf_counter() + seconds
    while len(runs) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        program()
        runs.append(time.perf_counter() - started)
    return statistics.median(runs)
