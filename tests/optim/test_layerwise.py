"""Optimizers that look at whole parameters: against their formulas by other means, and in whole networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.optim import Lamb, Muon
from cnnspec.optim.layerwise import NEWTON_SCHULZ
from cnnspec.optim.optimizers import AdamW
from cnnspec.spec import loads
from tests.optim.following import followed

SHAPES = [(4, 3, 2, 2), (3, 7), (9, 2), (5, 5)]
RATES = [0.1, 0.02, 0.0, 0.3]


def gradient_at(weights: Array, number: int) -> Array:
    return np.asarray(np.sin(3 * weights + number) + weights)


def start(shape: Sequence[int]) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("shape", [*SHAPES, (6,)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb_by_its_formula(shape: tuple[int, ...], decay: float) -> None:
    """You et al. (2019), algorithm 2, with the identity for phi."""
    w, m, v = start(shape), np.zeros(shape), np.zeros(shape)
    for t, rate in enumerate(RATES, start=1):
        g = gradient_at(w, t)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * w
        w = w - rate * np.sqrt((w**2).sum()) / np.sqrt((r**2).sum()) * r
    np.testing.assert_allclose(followed(Lamb(), start(shape), RATES, gradient_at, decay), w, rtol=1e-9)


def test_lamb_moves_what_is_zero_as_adam_does() -> None:
    lamb, adam = Lamb(), AdamW(epsilon=1e-6)
    found, expected = (followed(one, np.zeros(5), [0.1], gradient_at, 0.0) for one in (lamb, adam))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(followed(lamb, start((5,)), RATES, lambda w, _: 0 * w, 0.0), start((5,)))


def orthogonal(matrix: Array) -> Array:
    """The iteration as it acts on singular values, one number at a time."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    a, b, c = NEWTON_SCHULZ
    s = s / (np.sqrt((s**2).sum()) + 1e-7)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return np.asarray(u @ np.diag(s) @ v)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_by_singular_values(shape: tuple[int, ...], nesterov: bool) -> None:
    w, m = start(shape), np.zeros(shape)
    rows, columns = shape[0], w.size // shape[0]
    for t, rate in enumerate(RATES, start=1):
        g = gradient_at(w, t)
        m = 0.95 * m + 0.05 * g
        d = orthogonal(((0.05 * g + 0.95 * m) if nesterov else m).reshape(rows, columns)).reshape(shape)
        w = w - rate * (max(1, rows / columns) ** 0.5 * d + 0.1 * w)
    found = followed(Muon(nesterov=nesterov), start(shape), RATES, gradient_at, 0.1)
    np.testing.assert_allclose(found, w, rtol=1e-8, atol=1e-11)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_muon_is_pytorchs(shape: tuple[int, ...]) -> None:
    """PyTorch iterates in bfloat16, which has three digits."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    weights = torch.tensor(start(shape), requires_grad=True)
    theirs: Any = torch.optim.Muon([weights], lr=0.1, weight_decay=0.1)
    for number, rate in enumerate(RATES, start=1):
        weights.grad = torch.tensor(gradient_at(weights.detach().numpy(), number))
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
    found = followed(Muon(), start(shape), RATES, gradient_at, 0.1)
    np.testing.assert_allclose(found, weights.detach().numpy(), atol=0.02)


SPEC = """
cnnspec: 1
name: net
input: [1, 6, 6]
layers:
  - {{type: conv2d, filters: 70, kernel_size: 3, bias: untied}}
  - batch_norm
  - tanh
  - {{type: conv2d, filters: 40, kernel_size: 3, rate_factor: 0.5}}
  - flatten
  - {{type: dense, units: 3}}
train: {{epochs: 1, optimizer: {optimizer}{more}}}
"""
MUON = "{type: muon, weight_decay: 0.1, rest: {type: adamw, learning_rate: 0.003}}"


def model(optimizer: str, more: str = "", threads: int = 1) -> Model:
    spec = loads(SPEC.format(optimizer=optimizer, more=more))
    return Model(spec, build(spec), threads=threads, dtype="float64")


def step(net: Model, number: int, rate: float, count: int) -> dict[str, Array]:
    """Take a step; return the gradient that it had to follow, by parameter."""
    assert net.training is not None
    plan, random = net.plan(count, "train", "float64"), np.random.default_rng(number)
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.labels[...] = random.integers(0, 3, count)
    plan.compute()
    gradient = net.weights.trained_in(net.training.gradients[0].copy())
    plan.step(rate)
    return gradient


@pytest.mark.parametrize("count", [5, 40])
def test_every_matrix_of_a_network_is_updated_as_one_and_the_rest_by_the_rest(count: int) -> None:
    net = model(MUON)
    means: dict[str, Array] = {}
    squares: dict[str, Array] = {}
    for number, rate in enumerate([0.02, 0.01], start=1):
        before = {name: array.copy() for name, array in net.weights.params.items()}
        for name, g in step(net, number, rate, count).items():
            w, factor = before[name], 0.5 if name.startswith("conv2d_2") else 1
            if name.endswith("weight") and "norm" not in name:
                means[name] = 0.95 * means.get(name, 0) + 0.05 * g
                rows, columns = len(w), w.size // len(w)
                d = orthogonal((0.05 * g + 0.95 * means[name]).reshape(rows, columns)).reshape(w.shape)
                w = w - rate * factor * (max(1, rows / columns) ** 0.5 * d + 0.1 * w)
            else:
                means[name] = 0.9 * means.get(name, 0) + 0.1 * g
                squares[name] = 0.999 * squares.get(name, 0) + 0.001 * g * g
                d = means[name] / (1 - 0.9**number) / (np.sqrt(squares[name] / (1 - 0.999**number)) + 1e-8)
                w = w - rate / 0.02 * 0.003 * factor * d
            np.testing.assert_allclose(net.weights.params[name], w, rtol=1e-7, atol=1e-10)
    assert net.training is not None
    kept = set(net.training.arrays())
    assert "momentum/conv2d_1.weight" in kept
    assert "mean/conv2d_1.bias" in kept
    assert not {"momentum/conv2d_1.bias", "mean/conv2d_1.weight"} & kept


@pytest.mark.parametrize("optimizer", [MUON, "lamb", "{type: muon, rest: lamb}"])
@pytest.mark.parametrize("more", ["", ", clip: {norm: 0.1}, ema: 0.9, accumulate: 2, lookahead: {every: 2}"])
def test_threads_do_not_matter(optimizer: str, more: str) -> None:
    kept = []
    for threads in (1, 3):
        net = model(optimizer, more, threads)
        for number in range(4):
            step(net, number, 0.02, 40)
        assert net.training is not None
        arrays = [*net.weights.arrays(), *net.training.arrays().items()]
        kept.append({name: array.tobytes() for name, array in arrays})
    assert kept[0] == kept[1]


def test_slow_weights_follow_and_lead_back() -> None:
    """Zhang et al. (2019), algorithm 1, around momentum."""
    momentum = "{type: momentum, learning_rate: 0.1}"
    net = model(momentum, ", lookahead: {every: 3, share: 0.25}")
    slow = {name: array.copy() for name, array in net.weights.params.items()}
    fast = {name: array.copy() for name, array in slow.items()}
    velocity = {name: np.zeros_like(array) for name, array in slow.items()}
    for number in range(1, 8):
        gradient = step(net, number, 0.1, 5)
        for name, g in gradient.items():
            factor = 0.5 if name.startswith("conv2d_2") else 1
            velocity[name] = 0.9 * velocity[name] + g
            fast[name] = fast[name] - 0.1 * factor * velocity[name]
            if number % 3 == 0:
                slow[name] = slow[name] + 0.25 * (fast[name] - slow[name])
                fast[name] = slow[name].copy()
            np.testing.assert_allclose(net.weights.params[name], fast[name], rtol=1e-8, atol=1e-11)
