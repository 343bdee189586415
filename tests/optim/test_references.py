"""Optimizers and schedules against PyTorch's over 100 steps, in float64, to 1e-9.

The numbers are stored, so that the tests run without it; where it is installed they are also made afresh.
`python -m tests.optim.test_references` writes them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.optim import Optimizer, Schedule
from cnnspec.optim.optimizers import Adagrad, Adam, AdamW, Lion, Momentum, Nesterov, RmsProp, Sgd
from cnnspec.optim.schedules import (
    ConstantRate,
    Cosine,
    Exponential,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
)
from tests.optim.following import followed

STORED = Path(__file__).parent / "references.json"
STEPS, RATE = 100, 0.01
START = [0.5, -1.25, 2.0, -0.01, 0.75]
HAS_TORCH = importlib.util.find_spec("torch") is not None

# name: our optimizer, its weight decay, PyTorch's class and its settings
OPTIMIZERS: Mapping[str, tuple[Optimizer, float, str, dict[str, Any]]] = {
    "sgd": (Sgd(), 0.0, "SGD", {}),
    "sgd with decay": (Sgd(), 0.1, "SGD", {"weight_decay": 0.1}),
    "momentum": (Momentum(), 0.1, "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (Nesterov(), 0.0, "SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam(), 0.1, "Adam", {"weight_decay": 0.1}),
    "adamw": (AdamW(), 0.1, "AdamW", {"weight_decay": 0.1}),
    "rmsprop": (RmsProp(), 0.1, "RMSprop", {"weight_decay": 0.1}),
    "rmsprop with momentum": (RmsProp(momentum=0.8), 0.0, "RMSprop", {"momentum": 0.8}),
    "adagrad": (Adagrad(), 0.1, "Adagrad", {"weight_decay": 0.1}),
}
SCHEDULES: Mapping[str, tuple[Schedule, int, str, dict[str, Any]]] = {
    "constant": (ConstantRate(), 100, "LambdaLR", {"lr_lambda": lambda epoch: 1.0}),
    "step": (Step(every=30, gamma=0.5), 100, "StepLR", {"step_size": 30, "gamma": 0.5}),
    "multistep": (MultiStep(milestones=(20, 70)), 100, "MultiStepLR", {"milestones": [20, 70]}),
    "exponential": (Exponential(gamma=0.95), 100, "ExponentialLR", {"gamma": 0.95}),
    "cosine": (Cosine(minimum=0.1), 100, "CosineAnnealingLR", {"T_max": 100, "eta_min": 0.1 * RATE}),
    "restarts": (
        Cosine(restarts=10, growth=2),
        100,
        "CosineAnnealingWarmRestarts",
        {"T_0": 10, "T_mult": 2},
    ),
    "polynomial": (Polynomial(power=2.0), 100, "PolynomialLR", {"total_iters": 100, "power": 2.0}),
    # PyTorch counts to the last step, which is one less than their number
    "one_cycle": (OneCycle(rise=29 / 99), 99, "OneCycleLR", {"max_lr": RATE, "total_steps": 100, "pct_start": 0.3}),
}


def losses() -> list[float]:
    """A curve that falls, stands still and falls again."""
    return [1 / (1 + t) + 0.3 * (t > 40) - 0.25 * (t > 70) for t in range(STEPS)]


def ours(optimizer: Optimizer, weight_decay: float) -> Array:
    def gradient_at(weights: Array, number: int) -> Array:
        return np.asarray(np.sin(3 * weights + number) + weights)

    return followed(optimizer, np.array(START), [RATE] * STEPS, gradient_at, weight_decay)


def torch_weights(name: str) -> list[float]:
    import torch

    _, _, cls, settings = OPTIMIZERS[name]
    weights = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, cls)([weights], lr=RATE, **settings)
    for number in range(1, STEPS + 1):
        weights.grad = (torch.sin(3 * weights + number) + weights).detach()
        optimizer.step()
    return list(weights.detach().numpy().tolist())


def torch_rates(name: str) -> list[float]:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    if name == "plateau":
        watching = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
        rates = []
        for loss in losses():
            rates.append(optimizer.param_groups[0]["lr"] / RATE)
            watching.step(loss)
        return rates
    _, _, cls, settings = SCHEDULES[name]
    schedule = getattr(torch.optim.lr_scheduler, cls)(optimizer, **settings)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"] / RATE)
        optimizer.step()
        if len(rates) < STEPS:
            schedule.step()
    return rates


def references(make: Callable[[str], list[float]], name: str) -> list[list[float]]:
    """The stored numbers, and fresh ones where PyTorch is there."""
    stored = json.loads(STORED.read_text())[name]
    return [stored, make(name)] if HAS_TORCH else [stored]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    optimizer, decay, _, _ = OPTIMIZERS[name]
    for reference in references(torch_weights, name):
        np.testing.assert_allclose(ours(optimizer, decay), reference, rtol=1e-9)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    schedule, epochs, _, _ = SCHEDULES[name]
    found = [schedule.factor(float(epoch), epochs) for epoch in range(STEPS)]
    for reference in references(torch_rates, name):
        np.testing.assert_allclose(found, reference, rtol=1e-9)


@pytest.mark.filterwarnings("default")
def test_plateau() -> None:
    falls, found = Plateau(gamma=0.5).falls(), list[float]()
    for loss in losses():
        found.append(falls.factor)
        falls.see({"train.loss": loss})
    for reference in references(torch_rates, "plateau"):
        np.testing.assert_allclose(found, reference, rtol=1e-9)
    assert 0 < min(found) < 1


def test_lion_by_its_formula() -> None:
    """PyTorch has none: Chen et al. (2023), program 1."""
    weights, mean = np.array(START), np.zeros(len(START))
    for number in range(1, STEPS + 1):
        gradient = np.sin(3 * weights + number) + weights
        weights = weights - RATE * (np.sign(0.9 * mean + 0.1 * gradient) + 0.1 * weights)
        mean = 0.99 * mean + 0.01 * gradient
    np.testing.assert_allclose(ours(Lion(), 0.1), weights, rtol=1e-9)


if __name__ == "__main__":
    found = {name: torch_weights(name) for name in OPTIMIZERS}
    found |= {name: torch_rates(name) for name in [*SCHEDULES, "plateau"]}
    STORED.write_text(json.dumps(found, indent=0) + "\n")
