"""Measures several programs for one task in alternation, so that a slow phase of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Program = Callable[[], object]
SLICE = 0.2  # seconds of one program before the next, as other load changes within seconds
FEWEST = 3  # fewest runs in a round
WARM = 2, 0.05  # runs, or seconds, of warm-up, which replaces the last program's data in caches


@dataclass(frozen=True)
class Race:
    """Seconds for a run of each program, round by round; the others are compared with the program `reference`."""

    reference: str
    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return a program's median over the rounds."""
        return statistics.median(self.seconds[name])

    @property
    def best(self) -> str:
        """The name of the fastest of the other programs."""
        return min((name for name in self.seconds if name != self.reference), key=self.median)

    def ratios(self, other: str) -> tuple[float, ...]:
        """Return how many times as fast as another program the reference was, in each round, sorted."""
        pairs = zip(self.seconds[other], self.seconds[self.reference], strict=True)
        return tuple(sorted(theirs / reference for theirs, reference in pairs))


def race(
    programs: Mapping[str, Program],
    reference: str,
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    progress: Program = lambda: None,
) -> Race:
    """Run all programs in turn, in short slices, for about `seconds` each a round; a round counts its median run."""
    medians: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds):
        runs: dict[str, list[float]] = {name: [] for name in programs}
        while any(len(some) < FEWEST or sum(some) < seconds for some in runs.values()):
            for name in _order(list(programs), turn):
                runs[name] += _slice(programs[name], min(seconds, SLICE))
        for name, some in runs.items():
            medians[name].append(statistics.median(some))
        progress()
    return Race(reference, {name: tuple(values) for name, values in medians.items()})


def _order(names: list[str], turn: int) -> Iterator[str]:
    """Yield the names with another one first in every round, so that no program always follows the same one."""
    start = turn % len(names)
    yield from names[start:] + names[:start]


def _slice(program: Program, seconds: float) -> list[float]:
    """Run a program for about `seconds`, after a warm-up, and return the seconds of every run."""
    begun, (few, short) = time.perf_counter(), WARM
    for _ in range(few):
        program()
        if time.perf_counter() - begun > short:
            break
    runs: list[float] = []
    end = time.perf_counter() + seconds
    while not runs or time.perf_counter() < end:
        started = time.perf_counter()
        program()
        runs.append(time.perf_counter() - started)
    return runs
