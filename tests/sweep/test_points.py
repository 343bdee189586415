"""Which points a sweep tries: within their bounds, evenly, and by the seed and what is known alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from scipy.stats import kstest

from cnnspec.spec import loads
from cnnspec.spec.sweep import Choices, Range, Sweep
from cnnspec.sweep.points import Point, generation, value_at

SPEC = """
cnnspec: 1
input: [1, 8, 8]
layers: [flatten, {id: out, type: dense, units: 10}]
data: {source: digits, validation: {fraction: 0.3}}
train: {epochs: 2, optimizer: {type: sgd, learning_rate: 0.2}}
sweep:
  values:
    train.optimizer.learning_rate: {from: 0.001, to: 1, scale: log}
    train.batch_size: {from: 16, to: 19, integer: true}
    train.optimizer.momentum: {from: 0, to: 0.9}
    train.schedule: [cosine, {type: step, every: 2}]
  trials: 64
"""


def sweep_of(*overrides: str, text: str = SPEC) -> Sweep:
    found = loads(text, overrides=overrides).sweep
    assert found is not None
    return found


def figure(point: Point) -> float:
    """A figure that is least at a learning rate of 0.03."""
    return abs(math.log(point.get("train.optimizer.learning_rate", 1) / 0.03))


def drawn(sweep: Sweep, seed: int, size: int) -> list[Point]:
    known: list[tuple[Point, float | None]] = []
    while len(known) < sweep.count:
        known += [(point, figure(point)) for point in generation(sweep, seed, known, size)]
    return [point for point, _ in known]


@pytest.mark.parametrize("method", ["random", "sobol", "tpe"])
def test_points_lie_within_their_bounds(method: str) -> None:
    if method == "tpe":
        pytest.importorskip("optuna")
    for point in drawn(sweep_of(f"sweep.method={method}", "sweep.trials=32"), 0, 16):
        rate, batch = point["train.optimizer.learning_rate"], point["train.batch_size"]
        assert 0.001 <= rate <= 1
        assert rate == float(f"{rate:.4g}")
        assert isinstance(batch, int)
        assert 16 <= batch <= 19
        assert 0 <= point["train.optimizer.momentum"] <= 0.9
        assert point["train.schedule"] in ("cosine", {"type": "step", "every": 2})


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_logarithmic_scale_is_even_in_factors(method: str) -> None:
    points = drawn(sweep_of(f"sweep.method={method}", "sweep.trials=256"), 1, 256)
    rates = [math.log(point["train.optimizer.learning_rate"] / 0.001) / math.log(1000) for point in points]
    assert kstest(rates, "uniform").statistic < (0.1 if method == "random" else 0.02)
    batches = [point["train.batch_size"] for point in points]
    assert min(batches.count(size) for size in (16, 17, 18, 19)) > (40 if method == "random" else 62)


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_generations_of_any_size_draw_the_same(method: str) -> None:
    sweep = sweep_of(f"sweep.method={method}")
    assert drawn(sweep, 3, 64) == drawn(sweep, 3, 7) == drawn(sweep, 3, 1)
    assert drawn(sweep, 3, 64) != drawn(sweep, 4, 64)


def test_a_grid_is_all_combinations() -> None:
    values = "sweep.values={train.batch_size: [8, 16], train.optimizer.momentum: [0, 0.5, 0.9]}"
    sweep = sweep_of(values, "sweep.method=grid", "sweep.trials=null")
    assert sweep.count == 6
    found = [tuple(point.values()) for point in drawn(sweep, 0, 4)]
    assert found == list(itertools.product([8, 16], [0, 0.5, 0.9]))


def test_tpe_goes_where_it_went_well_and_repeats_itself() -> None:
    pytest.importorskip("optuna")
    sweep = sweep_of("sweep.method=tpe", "sweep.trials=40")
    points = drawn(sweep, 0, 5)
    assert points == drawn(sweep, 0, 5)
    first, last = points[:15], points[-15:]
    assert sum(map(figure, last)) < 0.7 * sum(map(figure, first))
    failed: list[tuple[Point, float | None]] = [(point, None) for point in points[:15]]
    assert len(generation(sweep, 0, failed, 5)) == 5


@pytest.mark.parametrize(
    ("domain", "u", "value"),
    [
        (Choices((1, [2, 3], "a")), 0.4, [2, 3]),
        (Choices((1, 2)), 1.0, 2),
        (Range(2, 6), 0.0, 2.0),
        (Range(1e-4, 1e2, logarithmic=True), 0.5, 0.1),
        (Range(0, 0.123456), 1.0, 0.123456),
        (Range(1, 4, integer=True), 0.249, 1),
        (Range(1, 4, integer=True), 0.251, 2),
        (Range(1, 4, integer=True), 1.0, 4),
        (Range(1, 100, logarithmic=True, integer=True), 0.0, 1),
    ],
)
def test_a_position_has_a_value(domain: Choices | Range, u: float, value: Any) -> None:
    assert value_at(domain, u) == value
