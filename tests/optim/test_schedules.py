"""Schedules against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.optim import Schedule
from cnnspec.optim.schedules import ConstantRate, Cosine, Exponential, OneCycle, Polynomial, Step


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    [
        (ConstantRate(), 7.5, 1.0),
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
        (ConstantRate(warmup=4), 2.0, 0.5),
        (ConstantRate(warmup=4), 5.0, 1.0),
    ],
    ids=str,
)
def test_factor(schedule: Schedule, epoch: float, factor: float) -> None:
    assert schedule.factor(epoch, 20) == pytest.approx(factor, rel=1e-3)


def test_warm_up_never_starts_at_zero() -> None:
    assert 0 < ConstantRate(warmup=5).factor(0.0, 20) < 0.01


FRACTIONS, WARMUPS = st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.5, 3.0, 10.0, 25.0])


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.builds(ConstantRate, warmup=WARMUPS),
        st.builds(Cosine, minimum=FRACTIONS, restarts=st.sampled_from([None, 1, 4]), growth=st.integers(1, 3)),
        st.builds(Cosine, minimum=FRACTIONS, warmup=WARMUPS),
        st.builds(Polynomial, power=st.sampled_from([0.5, 1.0, 3.0]), minimum=FRACTIONS, warmup=WARMUPS),
        st.builds(OneCycle, rise=FRACTIONS, start=st.sampled_from([1.0, 25.0]), minimum=FRACTIONS, warmup=WARMUPS),
    ),
    st.sampled_from([1, 2, 10]),
    st.floats(0, 1),
)
def test_factors_stay_between_0_and_1(schedule: Schedule, epochs: int, moment: float) -> None:
    """At the ends, inside, and where a warm-up or a rise takes the whole training."""
    for epoch in (0.0, moment * epochs, float(epochs)):
        assert 0 <= schedule.factor(epoch, epochs) <= 1 + 1e-12
