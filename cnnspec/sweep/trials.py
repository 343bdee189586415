"""The course of a sweep: generations of points, each trained with every seed, by halving if the spec says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Outcome, Task
from cnnspec.sweep.points import Point, generation

Outcomes = Callable[["Sequence[Trial]", "int | None"], "dict[Task, Outcome]"]  # trains trials up to a number of epochs


@dataclass(slots=True)
class Trial:
    """A point with its outcomes: one for each seed, for each rung of the halving that it reached."""

    number: int  # from 1
    point: Point
    rungs: list[list[Outcome]] = field(default_factory=list)

    @property
    def epochs(self) -> float:
        """The epochs that it was trained for, the most over all seeds."""
        return max((outcome.epochs for outcome in self.rungs[-1]), default=0) if self.rungs else 0

    def error(self) -> str:
        """The error of the first seed that failed; empty if none did."""
        return next((outcome.error for rung in self.rungs for outcome in rung if outcome.error), "")

    def values(self, metric: str, rung: int = -1) -> list[float]:
        """The figure for each seed; empty if one failed."""
        outcomes = self.rungs[rung] if self.rungs else []
        failed = any(outcome.error for outcome in outcomes)
        return [] if failed else [outcome.figures[metric] for outcome in outcomes if metric in outcome.figures]

    def mean(self, metric: str, rung: int = -1) -> float | None:
        """The mean over its seeds; None if one failed."""
        values = self.values(metric, rung)
        return fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """The standard deviation over its seeds; None if there are fewer than two."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


def rungs(sweep: Sweep, epochs: float) -> list[int | None]:
    """The epochs after which points are compared; None stands for the end of the training."""
    epochs_of_rungs: list[int | None] = []
    if sweep.halving is not None:
        reached = sweep.halving.first
        while reached < epochs:
            epochs_of_rungs.append(reached)
            reached *= sweep.halving.factor
    return [*epochs_of_rungs, None]


def going_on(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that continue after a rung: of n the best n / factor, rounded up; of equal ones the first."""
    assert sweep.halving is not None
    right = [trial for trial in trials if trial.mean(sweep.metric) is not None]
    right.sort(key=lambda trial: order_of(sweep, trial))
    numbers = {trial.number for trial in right[: math.ceil(len(trials) / sweep.halving.factor)]}
    return [trial for trial in trials if trial.number in numbers]


def order_of(sweep: Sweep, trial: Trial) -> tuple[int, float, int]:
    """The key that sorts trials: how far a trial came, its figure, its number."""
    mean = trial.mean(sweep.metric)
    if mean is None:
        return (1, 0.0, trial.number)
    return (-len(trial.rungs), mean if sweep.falls else -mean, trial.number)


def course(sweep: Sweep, seed: int, epochs: float, train: Outcomes) -> Iterator[list[Trial]]:
    """Run a sweep; yield the trials so far after every rung. Points depend on complete generations alone."""
    trials: list[Trial] = []
    while len(trials) < sweep.count:
        known = [(trial.point, trial.mean(sweep.metric, 0)) for trial in trials]
        points = generation(sweep, seed, known, sweep.size)
        alive = [Trial(len(trials) + number, point) for number, point in enumerate(points, 1)]
        trials += alive
        for reached in rungs(sweep, epochs):
            outcomes = train(alive, reached)
            for trial in alive:
                trial.rungs.append([outcomes[task] for task in tasks_of(sweep, seed, trial.number, reached)])
            yield trials
            if reached is not None:
                alive = going_on(sweep, alive)


def tasks_of(sweep: Sweep, seed: int, number: int, epochs: int | None) -> list[Task]:
    """The trainings of one trial, one for each seed."""
    return [Task(number, seed + offset, epochs) for offset in range(sweep.seeds)]


def planned_epochs(sweep: Sweep, epochs: float) -> float:
    """The epochs of all trainings together, if none fails or stops early."""
    total, left = 0.0, sweep.count
    while left:
        alive, before = min(sweep.size, left), 0.0
        left -= alive
        for reached in rungs(sweep, epochs):
            end = epochs if reached is None else reached
            total += alive * sweep.seeds * (end - before)
            before = end
            alive = math.ceil(alive / sweep.halving.factor) if sweep.halving is not None else alive
    return total
