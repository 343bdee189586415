"""Schedules: the change of the learning rate during training, as a factor of the optimizer's own."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, floor, pi
from typing import Annotated, Any, ClassVar

from cnnspec.fields import Declaration, NonNegativeNumber, PositiveInt, PositiveNumber, UnitInterval
from cnnspec.optim.watched import LOWER, Watched
from cnnspec.registry import register


class Falls:
    """The factor by which the metrics of the epochs so far lower the rate; here none does, and it is 1."""

    factor = 1.0

    def see(self, row: Mapping[str, Any]) -> None:
        """Record the metrics of one more epoch."""


class Schedule(Declaration):
    """Base of all schedules: the learning rate of a step is the optimizer's times `factor` times that of `falls`.

    Warm-up multiplies any schedule by min(1, (epoch + 0.001) / warmup), a straight line from nearly 0 to 1.
    """

    kind: ClassVar[str] = "schedule"

    warmup: Annotated[NonNegativeNumber, "epochs over which the rate rises to its full height"] = 0.0

    def factor(self, epoch: float, epochs: float) -> float:
        """The factor at a step after `epoch` passes (from 0 on, with fractions) out of `epochs`."""
        rise = min(1.0, (epoch + 1e-3) / self.warmup) if self.warmup else 1.0
        return rise * self.shape(epoch, epochs)

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor at a step without warm-up, for the arguments of `factor`."""
        raise NotImplementedError

    def falls(self) -> Falls:
        """Return the object that lowers the rate by the metrics of one training."""
        return Falls()


@register("constant")
class ConstantRate(Schedule):
    """The same rate throughout: 1."""

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor is 1 at every step."""
        return 1.0


@register("step")
class Step(Schedule):
    """Falls every k epochs by the same factor: gamma ** floor(epoch / every)."""

    every: Annotated[PositiveInt, "epochs between two falls"]
    gamma: Annotated[PositiveNumber, "the factor of one fall"] = 0.1

    def shape(self, epoch: float, epochs: float) -> float:
        """gamma ** floor(epoch / every)."""
        return self.gamma ** floor(epoch / self.every)


@register("exponential")
class Exponential(Schedule):
    """Falls by the same factor every epoch, or every k epochs: gamma ** floor(epoch / every)."""

    gamma: Annotated[PositiveNumber, "the factor of one fall"]
    every: Annotated[PositiveInt, "epochs between two falls"] = 1

    def shape(self, epoch: float, epochs: float) -> float:
        """gamma ** floor(epoch / every)."""
        return self.gamma ** floor(epoch / self.every)


@register("multistep")
class MultiStep(Schedule):
    """Falls at the epochs that are listed: gamma ** (how many of them have been reached)."""

    milestones: Annotated[tuple[PositiveInt, ...], "epochs after which the rate falls"]
    gamma: Annotated[PositiveNumber, "the factor of one fall"] = 0.1

    def shape(self, epoch: float, epochs: float) -> float:
        """gamma ** count(milestone <= epoch)."""
        return float(self.gamma ** sum(milestone <= epoch for milestone in self.milestones))


@register("cosine")
class Cosine(Schedule):
    """Falls along half a cosine, step by step: minimum + (1 - minimum) (1 + cos(pi epoch / epochs)) / 2.

    After a warm-up the cosine spans the epochs that are left. With `restarts: n` they are divided into periods that
    each begin at the full rate; the first has n epochs, every other `growth` times as many as the one before it.
    Source: Loshchilov and Hutter, "SGDR" (2016).
    """

    minimum: Annotated[UnitInterval, "where it ends, as a fraction of the full rate"] = 0.0
    restarts: Annotated[PositiveInt | None, "epochs of the first period; one period unless given"] = None
    growth: Annotated[PositiveInt, "how many times longer the next period is"] = 1

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor is 1 at the end of the warm-up and at each restart, and `minimum` at the end of a period."""
        behind = max(epoch - self.warmup, 0.0)
        period = float(self.restarts or max(epochs - self.warmup, 1e-9))
        while self.restarts is not None and behind >= period:
            behind -= period
            period *= self.growth
        return self.minimum + (1 - self.minimum) * (1 + cos(pi * min(behind / period, 1.0))) / 2


@register("polynomial")
class Polynomial(Schedule):
    """Falls along a power: minimum + (1 - minimum) (1 - epoch / epochs) ** power, after the warm-up."""

    power: Annotated[PositiveNumber, "1 falls in a straight line"] = 1.0
    minimum: Annotated[UnitInterval, "where it ends, as a fraction of the full rate"] = 0.0

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor is 1 at the end of the warm-up and `minimum` at the end of training."""
        part = max(epoch - self.warmup, 0.0) / max(epochs - self.warmup, 1e-9)
        return float(self.minimum + (1 - self.minimum) * (1 - min(part, 1.0)) ** self.power)


@register("one_cycle")
class OneCycle(Schedule):
    """Rises along half a cosine from 1 / start to the full rate, and falls to `minimum` along another.

    Source: Smith and Topin, "Super-convergence" (2017).
    """

    rise: Annotated[UnitInterval, "fraction of the training in which the rate rises"] = 0.3
    start: Annotated[PositiveNumber, "the first rate is the full one divided by this"] = 25.0
    minimum: Annotated[UnitInterval, "where it ends, as a fraction of the full rate"] = 4e-6

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor is 1 / start at first, 1 at the top, and `minimum` at the end."""
        top, first = self.rise * epochs, 1 / self.start
        if epoch < top:
            return first + (1 - first) * (1 - cos(pi * epoch / top)) / 2
        part = min((epoch - top) / max(epochs - top, 1e-9), 1.0)
        return self.minimum + (1 - self.minimum) * (1 + cos(pi * part)) / 2


@register("plateau")
class Plateau(Schedule):
    """Falls whenever a metric has not become better for `patience` epochs: gamma ** (how often that happened)."""

    metric: Annotated[Watched, "the figure that is watched"] = "train.loss"
    gamma: Annotated[PositiveNumber, "the factor of one fall"] = 0.1
    patience: Annotated[PositiveInt, "epochs without a better value before a fall"] = 5
    threshold: Annotated[NonNegativeNumber, "by what fraction of the best a value must be better to count"] = 1e-4

    def shape(self, epoch: float, epochs: float) -> float:
        """The factor is 1 at every step: `falls` lowers the rate."""
        return 1.0

    def falls(self) -> Falls:
        """Return the object that watches the metric."""
        return PlateauFalls(self)


class PlateauFalls(Falls):
    """Multiplies by gamma once more than `patience` epochs were no better than the best, and counts from 0 again."""

    def __init__(self, plateau: Plateau) -> None:
        self.plateau = plateau
        self.count = self.waited = 0
        self.best: float | None = None

    def see(self, row: Mapping[str, Any]) -> None:
        """Compare the metric with the best so far; an epoch without the metric is ignored."""
        value, lower = row.get(self.plateau.metric), self.plateau.metric.endswith(LOWER)
        if value is None:
            return
        margin = 1 - self.plateau.threshold if lower else 1 + self.plateau.threshold
        bound = None if self.best is None else self.best * margin
        if value == value and (bound is None or (value < bound if lower else value > bound)):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited > self.plateau.patience:
            self.count, self.waited = self.count + 1, 0
        self.factor = self.plateau.gamma**self.count
