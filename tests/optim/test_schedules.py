"""Schedules against values worked out by hand."""

from __future__ import annotations

import pytest

from cnnspec.optim import Schedule
from cnnspec.optim.schedules import Constant, Cosine, Exponential, Step


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    [
        (Constant(), 7.5, 1.0),
        (Step(every=10, gamma=0.1), 9.99, 1.0),
        (Step(every=10, gamma=0.1), 10.0, 0.1),
        (Step(every=10, gamma=0.1), 25.0, 0.01),
        (Exponential(gamma=0.9), 0.99, 1.0),
        (Exponential(gamma=0.9), 3.0, 0.729),
        (Exponential(gamma=0.9, every=10), 29.0, 0.81),
        (Cosine(), 0.0, 1.0),
        (Cosine(), 10.0, 0.5),
        (Cosine(minimum=0.2), 20.0, 0.2),
        (Cosine(warmup=4), 12.0, 0.5),
        (Constant(warmup=4), 2.0, 0.5),
        (Constant(warmup=4), 5.0, 1.0),
    ],
    ids=str,
)
def test_factor(schedule: Schedule, epoch: float, factor: float) -> None:
    assert schedule.factor(epoch, 20) == pytest.approx(factor, rel=1e-3)


def test_warm_up_never_starts_at_zero() -> None:
    assert 0 < Constant(warmup=5).factor(0.0, 20) < 0.01
