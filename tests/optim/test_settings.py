"""Early stopping and the plateau schedule against loops that look at the whole history anew after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.optim.schedules import Plateau
from cnnspec.optim.settings import EarlyStopping

Metric = Literal["validation.loss", "validation.accuracy"]
VALUES = st.one_of(st.sampled_from([nan, 0.0, 0.5, 0.5001]), st.floats(0, 2))
METRICS: st.SearchStrategy[Metric] = st.sampled_from(("validation.loss", "validation.accuracy"))


def ends(stopping: EarlyStopping, values: Sequence[float | None]) -> bool:
    watching = stopping.watch()
    for value in values:
        watching.see({stopping.metric: value})
    return watching.is_over


def lowered(plateau: Plateau, values: Sequence[float]) -> float:
    falls = plateau.falls()
    for value in values:
        falls.see({plateau.metric: value})
    return falls.factor


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=20), METRICS, st.integers(1, 6), st.sampled_from([0.0, 0.01, 0.3]))
def test_training_ends_when_the_best_value_is_old(
    values: list[float], metric: Metric, patience: int, change: float
) -> None:
    stopping = EarlyStopping(metric=metric, patience=patience, minimum_change=change)
    sign = -1 if metric.endswith("loss") else 1
    best, waited = nan, 0
    for value in values:
        better = not isnan(value) and (isnan(best) or sign * (value - best) > change)
        best, waited = (value, 0) if better else (best, waited + 1)
    assert ends(stopping, values) == (waited >= patience)


def test_training_goes_on_without_the_metric() -> None:
    assert not ends(EarlyStopping(patience=1), [0.5, None, 0.5, 0.5])


@pytest.mark.parametrize("metric", ["validation.loss", "validation.accuracy"])
def test_a_first_value_that_is_no_number_is_not_the_best(metric: Metric) -> None:
    history = [nan, 0.5, 0.5, 0.5]
    assert not ends(EarlyStopping(metric=metric, patience=3), history)
    assert ends(EarlyStopping(metric=metric, patience=2), history)
    assert lowered(Plateau(metric=metric, patience=2, gamma=0.5), history) == 1
    assert lowered(Plateau(metric=metric, patience=1, gamma=0.5), history) == 0.5


@pytest.mark.filterwarnings("default")
@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30), METRICS, st.integers(1, 6), st.sampled_from([0.0, 1e-4, 0.1]))
def test_plateau_falls_as_pytorch_says(values: list[float], metric: Metric, patience: int, threshold: float) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    mode = "min" if metric.endswith("loss") else "max"
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.5, patience=patience, threshold=threshold, eps=0
    )
    for value in values:
        theirs.step(value)
    ours = Plateau(metric=metric, gamma=0.5, patience=patience, threshold=threshold)
    assert lowered(ours, values) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
