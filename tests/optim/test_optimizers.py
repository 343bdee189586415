"""Optimizers against their formulas, written again as plainly as can be, over 100 steps in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.kernels.step import Array
from cnnspec.optim import Optimizer, Update
from cnnspec.optim.optimizers import LARGEST_PULL, Adam, Sgd
from tests.optim.following import followed

STEPS, SIZE, RATE, DECAY = 100, 50, 0.01, 0.02


def gradient_at(weights: Array, step: int) -> Array:
    """A gradient that depends on the weights and on the step."""
    return np.asarray(np.sin(3 * weights + step) + weights)


def trained(optimizer: Optimizer, weight_decay: float) -> Array:
    start = np.random.default_rng(0).standard_normal(SIZE)
    return followed(optimizer, start, [RATE / t**0.5 for t in range(1, STEPS + 1)], gradient_at, weight_decay)


def sgd(momentum: float, nesterov: bool, decay: float) -> Array:
    w = np.random.default_rng(0).standard_normal(SIZE)
    v = np.zeros(SIZE)
    for t in range(1, STEPS + 1):
        g = gradient_at(w, t) + decay * w
        v = momentum * v + g
        w = w - RATE / t**0.5 * (g + momentum * v if nesterov else v)
    return w


def adam(decay: float) -> Array:
    w = np.random.default_rng(0).standard_normal(SIZE)
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    for t in range(1, STEPS + 1):
        g = gradient_at(w, t) + decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - RATE / t**0.5 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize(
    ("optimizer", "oracle"),
    [
        (Sgd(), lambda decay: sgd(0.0, False, decay)),
        (Sgd(momentum=0.9), lambda decay: sgd(0.9, False, decay)),
        (Sgd(momentum=0.9, nesterov=True), lambda decay: sgd(0.9, True, decay)),
        (Adam(), adam),
    ],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_a_hundred_steps(optimizer: Optimizer, oracle: Callable[[float], Array], decay: float) -> None:
    np.testing.assert_allclose(trained(optimizer, decay), oracle(decay), rtol=1e-9, atol=1e-12)


def velocities(start: Array, rates: Sequence[float], momentum: float, decay: float) -> Array:
    """SGD as it is defined, in double precision."""
    w, v = start.astype(np.float64), np.zeros(len(start))
    for t, rate in enumerate(rates, start=1):
        v = momentum * v + gradient_at(w, t) + decay * w
        w = w - rate * v
    return w


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.3, 0.1, 0.03, 1e-3, 1e-6, 1e-15]), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    st.sampled_from([1e-6, 1e-4, 1e-2, 0.3]),
)
def test_decay_beside_the_velocity_follows_any_rates(rates: list[float], momentum: float, decay: float) -> None:
    start = np.random.default_rng(0).standard_normal(SIZE)
    found = followed(Sgd(momentum=momentum), start, rates, gradient_at, decay)
    np.testing.assert_allclose(found, velocities(start, rates, momentum, decay), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("decay", [2e-4, 1e-3, 0.05, 0.4, 2.0])
def test_decay_of_single_precision_is_not_lost(momentum: float, decay: float) -> None:
    """Though 1 - x is rounded, and a large x is not left out."""
    rates, start = [0.1] * 400, np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    found = followed(Sgd(momentum=momentum), start, rates, lambda w, _: 0 * w, decay) / start
    w, v = 1.0, 0.0
    for rate in rates:
        v = momentum * v + decay * w
        w -= rate * v
    assert abs(found.mean() - w) < (1 - w) / 1000
    assert abs(found - w).max() < (1 - w) / 256


@pytest.mark.parametrize(
    ("momentum", "decay", "whole"),
    [
        (0.0, 1e-4, 40),
        (0.0, 2e-4, 0),
        (0.9, 1e-5, 40),
        (0.9, 2e-5, 0),
        (0.99, 0.03, 2),
        (0.5, 2.0, 40),
        (0.99, 9.0, 40),
    ],
)
def test_which_decay_is_added_to_the_gradient(momentum: float, decay: float, whole: int) -> None:
    """All that are too small or too large, and one now and then where x would grow for long."""
    seen = []

    class Watched(Sgd):
        def begin(self, update: Update, weight_decay: float) -> None:
            super().begin(update, weight_decay)
            seen.append((float(update.next_pull[0]), float(update.factors[2])))

    followed(Watched(momentum=momentum), np.ones(1), [0.1] * 40, lambda w, _: 0 * w, decay)
    assert max(x for x, _ in seen) <= LARGEST_PULL
    assert all((x == 0) == (rest > 0) for x, rest in seen)
    assert sum(rest > 0 for _, rest in seen) == whole


@pytest.mark.parametrize(
    ("optimizer", "name", "settings"),
    [
        (Sgd(), "SGD", {}),
        (Sgd(momentum=0.9), "SGD", {"momentum": 0.9}),
        (Sgd(momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
        (Adam(), "Adam", {}),
    ],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_a_hundred_steps_of_pytorch(optimizer: Optimizer, name: str, settings: dict[str, float]) -> None:
    torch = pytest.importorskip("torch")
    w = torch.tensor(np.random.default_rng(0).standard_normal(SIZE), requires_grad=True)
    theirs = getattr(torch.optim, name)([w], lr=RATE, weight_decay=DECAY, **settings)
    for t in range(1, STEPS + 1):
        w.grad = torch.tensor(gradient_at(w.detach().numpy(), t))
        theirs.param_groups[0]["lr"] = RATE / t**0.5
        theirs.step()
    np.testing.assert_allclose(trained(optimizer, DECAY), w.detach().numpy(), rtol=1e-9, atol=1e-12)
