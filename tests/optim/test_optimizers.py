"""Optimizers against their formulas, written again as plainly as can be, over 100 steps in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.optim import Optimizer, Update
from cnnspec.optim.optimizers import Adam, Sgd

STEPS, SIZE, RATE, DECAY = 100, 50, 0.01, 0.02


def gradient_at(weights: Array, step: int) -> Array:
    """A gradient that depends on the weights and on the step."""
    return np.asarray(np.sin(3 * weights + step) + weights)


def trained(optimizer: Optimizer, weight_decay: float) -> Array:
    weights = np.random.default_rng(0).standard_normal(SIZE)
    gradients, update = np.empty(SIZE), Update(np.array(RATE), np.array(RATE), np.array(0))
    slots = {name: np.zeros(SIZE) for name in optimizer.slots()}
    temporary = tuple(np.full(SIZE, np.nan) for _ in range(optimizer.scratch))
    step = optimizer.bind(weights, gradients, slots, temporary, update, weight_decay)
    for number in range(1, STEPS + 1):
        rate = RATE / number**0.5
        update.count[...], update.last_rate[...], update.rate[...] = number, update.rate, rate
        gradients[...] = gradient_at(weights, number) * (rate if optimizer.linear else 1)
        step()
    return weights


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
