"""Factors of the learning rate, and periods in which parameters are trained: against the formula, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.period import NEVER, Period
from cnnspec.spec import loads

SPEC = """
cnnspec: 1
name: net
input: [1, 6, 6]
layers:
  - {{id: first, type: conv2d, filters: 4, kernel_size: 3, {first}}}
  - batch_norm
  - tanh
  - rate_factor: 0.5
    layers:
      - type: residual
        rate_factor: 0.5
        body: [{{type: conv2d, filters: 6, kernel_size: 1, rate_factor: 3, weight_decay: 0.3}}]
  - flatten
  - {{id: out, type: dense, units: 3}}
train:
  epochs: 9
  optimizer: {optimizer}
  rate_factors: {{weight: 0.5, bias: 2, norm: 3}}
  {more}
"""
SGD = "{type: sgd, learning_rate: 0.5, momentum: 0.9, weight_decay: 0.1}"
FACTORS = {
    "first.weight": 0.2 * 0.5,
    "first.bias": 0.2 * 2,
    "batch_norm_1.weight": 3,
    "batch_norm_1.bias": 3,
    "residual_1.conv2d_1.weight": 0.5 * 0.5 * 3 * 0.5,
    "residual_1.conv2d_1.bias": 0.5 * 0.5 * 3 * 2,
    "residual_1.shortcut.weight": 0.5 * 0.5 * 0.5,
    "residual_1.shortcut.bias": 0.5 * 0.5 * 2,
    "out.weight": 0.5,
    "out.bias": 2,
}
DECAYS = {
    "first.weight": 0.1,
    "residual_1.conv2d_1.weight": 0.3,
    "residual_1.shortcut.weight": 0.1,
    "out.weight": 0.1,
}


def model(first: str = "rate_factor: 0.2", optimizer: str = SGD, more: str = "", threads: int = 1) -> Model:
    spec = loads(SPEC.format(first=first, optimizer=optimizer, more=more))
    return Model(spec, build(spec), threads=threads, dtype="float64")


def step(net: Model, number: int, moment: float = 0.0, count: int = 40) -> dict[str, Array]:
    """Take a step; return the gradient that it had to follow, by parameter."""
    assert net.training is not None
    random = np.random.default_rng(number)
    plan = net.plan(count, "train", "float64")
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.labels[...] = random.integers(0, 3, count)
    state = net.weights.statistics.copy()
    plan.compute()
    gradient = net.weights.trained_in(net.training.gradients[0].copy())
    net.weights.statistics[...] = state
    plan.step(0.5, moment)
    return gradient


@pytest.mark.parametrize("count", [5, 40])
def test_every_parameter_has_its_own_rate(count: int) -> None:
    net = model()
    assert set(net.weights.params) == set(FACTORS)
    velocity: dict[str, Array] = {}
    for number in range(3):
        before = {name: array.copy() for name, array in net.weights.params.items()}
        for name, gradient in step(net, number, count=count).items():
            decayed = gradient + DECAYS.get(name, 0) * before[name]
            velocity[name] = 0.9 * velocity.get(name, 0) + decayed
            moved = before[name] - 0.5 * FACTORS[name] * velocity[name]
            np.testing.assert_allclose(net.weights.params[name], moved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("more", ["", "clip: {norm: 1.0e-3}", "clip: {value: 1.0e-3}", "ema: 0.5"])
def test_a_period_begins_as_a_training_does(more: str) -> None:
    """Outside of it nothing moves, decays or counts into the norm; Adam's averages begin with it."""
    adam = "{type: adam, learning_rate: 0.1, weight_decay: 0.1}"
    net = model("trainable: {from: 2, until: 4}, rate_factor: 0.2", adam, more)
    mean: Array = np.zeros(())
    square: Array = np.zeros(())
    for number, moment in enumerate([0, 0.5, 1.9, 2, 2.5, 3, 3.99, 4, 5], start=1):
        before = net.weights.params["first.weight"].copy()
        found = step(net, number, moment)
        after, updates = net.weights.params["first.weight"], number - 3
        if not 2 <= moment < 4:
            np.testing.assert_array_equal(after, before)
            continue
        g = found["first.weight"]
        if "norm" in more:
            g = g * 1e-3 / np.sqrt(sum(float((part**2).sum()) for part in found.values()))
        elif "value" in more:
            g = np.clip(g, -1e-3, 1e-3)
        g = g + 0.1 * before
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        d = mean / (1 - 0.9**updates) / (np.sqrt(square / (1 - 0.999**updates)) + 1e-8)
        np.testing.assert_allclose(after, before - 0.5 * 0.2 * 0.5 * d, rtol=1e-7, atol=1e-10)


def test_what_is_not_trained_has_no_part_in_the_norm() -> None:
    """As far as it is clipped, the rest moves as without the layer that is frozen at that moment."""
    plain = "{type: sgd, learning_rate: 0.5}"
    net = model("trainable: {from: 2}", plain, "clip: {norm: 1.0e-3}")
    found = step(net, 0, 1.0)
    length = np.sqrt(sum(float((g**2).sum()) for name, g in found.items() if not name.startswith("first.")))
    twin = model("trainable: {from: 2}", plain)
    step(twin, 0, 1.0)
    fresh = model("trainable: {from: 2}", plain)
    for name, start in fresh.weights.params.items():
        if name == "residual_1.conv2d_1.weight":
            continue  # its decay is no part of the gradient that is clipped
        clipped, free = net.weights.params[name] - start, twin.weights.params[name] - start
        np.testing.assert_allclose(clipped, free * 1e-3 / length, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("more", ["", "accumulate: 2", "clip: {norm: 0.1}"])
def test_threads_do_not_matter(more: str) -> None:
    kept = []
    for threads in (1, 2, 4):
        net = model("trainable: {from: 1, until: 3}, rate_factor: 2", more=more, threads=threads)
        for number in range(6):
            step(net, number, number / 2, count=70)
        assert net.training is not None
        arrays = [*net.weights.arrays(), *net.training.arrays().items()]
        kept.append({name: array.tobytes() for name, array in arrays})
    assert kept[0] == kept[1] == kept[2]
    assert "updates/from 1 until 3" in kept[0]


def test_periods_within_one_another() -> None:
    assert Period(1, 5).within(Period(2)) == Period(2, 5)
    assert Period(1, 2).within(Period(3)) == NEVER
    assert [str(period) for period in (Period(), NEVER, Period(2), Period(0, 5), Period(1.5, 5))] == [
        "always",
        "never",
        "from 2",
        "until 5",
        "from 1.5 until 5",
    ]
