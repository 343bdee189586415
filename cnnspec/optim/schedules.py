"""Schedules: how the learning rate changes, as a factor on the optimizer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, floor, pi
from typing import Annotated, Any, ClassVar

from cnnspec.fields import Declaration, NonNegativeNumber, PositiveInt, PositiveNumber, UnitInterval
from cnnspec.registry import register


class Schedule(Declaration):
    """Base of all schedules; warm-up rises in a straight line from nearly 0 and multiplies the rest."""

    kind: ClassVar[str] = "schedule"

    warmup: Annotated[NonNegativeNumber, "epochs over which the rate rises to its full height"] = 0.0

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor at a moment: `epoch` counts from 0 and has the share of the running epoch behind its point."""
        rise = min(1.0, (epoch + 1e-3) / self.warmup) if self.warmup else 1.0
        return rise * self.shape(epoch, epochs)

    def shape(self, epoch: float, epochs: int) -> float:
        """The factor without warm-up."""
        raise NotImplementedError

    def fallen(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """A further factor from the metrics of the epochs so far."""
        return 1.0


@register("constant")
class Constant(Schedule):
    """The same rate throughout: 1."""

    def shape(self, epoch: float, epochs: int) -> float:
        """1."""
        return 1.0


@register("step")
class Step(Schedule):
    """Falls at fixed distances: gamma ** floor(epoch / every)."""

    every: Annotated[PositiveInt, "epochs between two falls"]
    gamma: Annotated[PositiveNumber, "the factor of one fall"] = 0.1

    def shape(self, epoch: float, epochs: int) -> float:
        """gamma ** floor(epoch / every)."""
        return self.gamma ** floor(epoch / self.every)


@register("exponential")
class Exponential(Schedule):
    """Falls by the same factor every epoch, or every k epochs: gamma ** floor(epoch / every)."""

    gamma: Annotated[PositiveNumber, "the factor of one fall"]
    every: Annotated[PositiveInt, "epochs between two falls"] = 1

    def shape(self, epoch: float, epochs: int) -> float:
        """gamma ** floor(epoch / every)."""
        return self.gamma ** floor(epoch / self.every)


@register("cosine")
class Cosine(Schedule):
    """Falls along half a cosine, step by step: minimum + (1 - minimum) (1 + cos(pi epoch / epochs)) / 2.

    Behind a warm-up the cosine spans the epochs that are left. Source: Loshchilov and Hutter, "SGDR" (2016).
    """

    minimum: Annotated[UnitInterval, "where it ends, as a share of the full rate"] = 0.0

    def shape(self, epoch: float, epochs: int) -> float:
        """1 at the end of the warm-up, `minimum` at the end of training."""
        share = max(epoch - self.warmup, 0.0) / max(epochs - self.warmup, 1e-9)
        return self.minimum + (1 - self.minimum) * (1 + cos(pi * min(share, 1.0))) / 2
