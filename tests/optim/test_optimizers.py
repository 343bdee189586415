"""Optimizers against their formulas, written again for one number at a time, and against PyTorch, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import copysign, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.kernels.step import Array, Step
from cnnspec.optim import Optimizer
from cnnspec.optim.optimizers import Adagrad, Adam, AdamW, Lion, Momentum, Nesterov, RmsProp, Sgd
from cnnspec.registry import table
from tests.optim.following import followed

SIZE = 20
START = np.random.default_rng(0).standard_normal(SIZE)

Apply = Callable[[float, float, float, int], float]  # the weight after an update, of weight, gradient, rate and number


def gradient_at(weights: Array, number: int) -> Array:
    """A gradient that depends on the weights and on the update."""
    return np.asarray(np.sin(3 * weights + number) + weights)


def sgd(o: Sgd, decay: float) -> Apply:
    v = 0.0

    def apply(w: float, g: float, rate: float, t: int) -> float:
        nonlocal v
        g += decay * w
        v = o.momentum * v + g
        return w - rate * (g + o.momentum * v if o.nesterov else v)

    return apply


def adam(o: Adam, decay: float) -> Apply:
    m = v = 0.0

    def apply(w: float, g: float, rate: float, t: int) -> float:
        nonlocal m, v
        g += decay * w
        m, v = o.beta1 * m + (1 - o.beta1) * g, o.beta2 * v + (1 - o.beta2) * g * g
        return w - rate * (m / (1 - o.beta1**t)) / (sqrt(v / (1 - o.beta2**t)) + o.epsilon)

    return apply


def adamw(o: AdamW, decay: float) -> Apply:
    step = adam(o, 0.0)
    return lambda w, g, rate, t: step(w, g, rate, t) - rate * decay * w


def rmsprop(o: RmsProp, decay: float) -> Apply:
    v = b = 0.0

    def apply(w: float, g: float, rate: float, t: int) -> float:
        nonlocal v, b
        g += decay * w
        v = o.memory * v + (1 - o.memory) * g * g
        b = o.momentum * b + g / (sqrt(v) + o.epsilon)
        return w - rate * b

    return apply


def adagrad(o: Adagrad, decay: float) -> Apply:
    v = 0.0

    def apply(w: float, g: float, rate: float, t: int) -> float:
        nonlocal v
        g += decay * w
        v += g * g
        return w - rate * g / (sqrt(v) + o.epsilon)

    return apply


def lion(o: Lion, decay: float) -> Apply:
    """Chen et al. (2023), program 1."""
    m = 0.0

    def apply(w: float, g: float, rate: float, t: int) -> float:
        nonlocal m
        way = o.beta1 * m + (1 - o.beta1) * g
        m = o.beta2 * m + (1 - o.beta2) * g
        return w - rate * ((copysign(1, way) if way else 0.0) + decay * w)

    return apply


ORACLES: dict[str, Callable[[Any, float], Apply]] = {
    "sgd": sgd,
    "momentum": sgd,
    "nesterov": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "lion": lion,
}


def expected(optimizer: Optimizer, start: Array, rates: list[float], decay: float) -> Array:
    """The weights after an update at each of the rates, one after the other."""

    def last(w: float) -> float:
        apply = ORACLES[optimizer.type_name](optimizer, decay)
        for number, rate in enumerate(rates, start=1):
            w = apply(w, float(gradient_at(np.array(w), number)), rate, number)
        return w

    return np.array([last(float(w)) for w in start])


def test_every_optimizer_has_an_oracle() -> None:
    """Those that look at a parameter as a whole have theirs in test_layerwise."""
    ours = {name for name, cls in table("optimizer").items() if cls.__module__.startswith("cnnspec.")}
    assert ours == {*ORACLES, "lamb", "muon"}


memories = st.sampled_from([0.0, 0.3, 0.9, 0.999])
epsilons = st.sampled_from([1e-12, 1e-8, 1e-3, 1.0])
OPTIMIZERS: st.SearchStrategy[Optimizer] = st.one_of(
    st.builds(Sgd, momentum=memories, nesterov=st.booleans()),
    st.builds(Momentum, momentum=memories),
    st.builds(Nesterov, momentum=memories),
    st.builds(Adam, beta1=memories, beta2=memories, epsilon=epsilons),
    st.builds(AdamW, beta1=memories, beta2=memories, epsilon=epsilons),
    st.builds(RmsProp, memory=memories, epsilon=epsilons, momentum=memories),
    st.builds(Adagrad, epsilon=epsilons),
    st.builds(Lion, beta1=memories, beta2=memories),
)
RATES = st.lists(st.sampled_from([0.3, 0.1, 0.03, 1e-3, 1e-6, 1e-15, 0.0]), min_size=1, max_size=30)
DECAYS = st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 0.3])


@settings(max_examples=300, deadline=None)
@given(OPTIMIZERS, RATES, DECAYS)
def test_any_settings_rates_and_decay(optimizer: Optimizer, rates: list[float], decay: float) -> None:
    found = followed(optimizer, START, rates, gradient_at, decay)
    np.testing.assert_allclose(found, expected(optimizer, START, rates, decay), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ORACLES)
def test_a_rate_of_0_moves_nothing_and_is_remembered(name: str) -> None:
    optimizer = table("optimizer")[name]()
    np.testing.assert_array_equal(followed(optimizer, START, [0.0] * 5, gradient_at, 0.1), START)
    rates = [0.1, 0.0, 0.0, 0.1]
    found = followed(optimizer, START, rates, gradient_at, 0.1)
    np.testing.assert_allclose(found, expected(optimizer, START, rates, 0.1), rtol=1e-10)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("decay", [1e-5, 1e-2])
def test_single_precision_loses_no_decay(name: str, decay: float) -> None:
    """Whatever the weight, the mean of many weights shrinks as it would in double precision."""
    optimizer, rates = table("optimizer")[name](), [0.1] * 100
    start = np.random.default_rng(0).uniform(1, 2, 2000)
    single, double = (
        followed(optimizer, start.astype(dtype), rates, lambda w, _: 0 * w, decay).astype(np.float64)
        for dtype in ("float32", "float64")
    )
    whole = float((start - double).mean())
    assert whole > 0
    assert abs(float((start - single).mean()) - whole) < whole / 50


@pytest.mark.parametrize("name", ORACLES)
def test_without_gradient_and_decay_nothing_moves(name: str) -> None:
    found = followed(table("optimizer")[name](), START, [0.1] * 3, lambda w, _: 0 * w, 0.0)
    np.testing.assert_array_equal(found, START)


@pytest.mark.parametrize("name", ORACLES)
def test_what_is_adaptive_moves_by_about_the_rate(name: str) -> None:
    """Once its averages are full, whether gradients are small or large; adagrad does so at first, and less and less."""
    cls, rates, moves = table("optimizer")[name], [0.01] * 200, []
    for gradient in (np.full(1, 1e-2), np.full(1, 1e2)):
        always: Callable[[Array, int], Array] = partial(lambda g, w, number: g, gradient)
        before, after = (followed(cls(), np.zeros(1), rates[:n], always, 0.0) for n in (199, 200))
        moves.append(abs(float((after - before)[0])) / 0.01)
    assert cls.adaptive == all(0.5 < move < 2 for move in moves)


class SignDescent(Optimizer):
    """w -= rate sign(g): the least that an optimizer of one's own has."""

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = sign(g)."""
        return lambda: np.sign(gradient, out=gradient), gradient


def test_an_optimizer_of_ones_own_is_one_formula() -> None:
    found = followed(SignDescent(), START, [0.1, 0.2], gradient_at, 0.3)
    w = START
    for number, rate in ((1, 0.1), (2, 0.2)):
        w = w - rate * np.sign(gradient_at(w, number) + 0.3 * w)
    np.testing.assert_allclose(found, w, rtol=1e-12)


def counterpart(torch: Any, optimizer: Optimizer, weights: Any, decay: float) -> Any:
    """PyTorch's optimizer of the same settings; None where it has none."""
    match optimizer:
        case Sgd():
            nesterov = optimizer.nesterov and optimizer.momentum > 0  # PyTorch refuses nesterov without momentum
            more: dict[str, Any] = {"momentum": optimizer.momentum, "nesterov": nesterov}
            return torch.optim.SGD([weights], lr=0.1, weight_decay=decay, **more)
        case Adam():
            cls = torch.optim.AdamW if isinstance(optimizer, AdamW) else torch.optim.Adam
            betas = (optimizer.beta1, optimizer.beta2)
            return cls([weights], lr=0.1, betas=betas, eps=optimizer.epsilon, weight_decay=decay)
        case RmsProp():
            more = {"alpha": optimizer.memory, "eps": optimizer.epsilon, "momentum": optimizer.momentum}
            return torch.optim.RMSprop([weights], lr=0.1, weight_decay=decay, **more)
        case Adagrad():
            return torch.optim.Adagrad([weights], lr=0.1, eps=optimizer.epsilon, weight_decay=decay)
    return None


@pytest.mark.filterwarnings("default")
@settings(max_examples=200, deadline=None)
@given(OPTIMIZERS, RATES, DECAYS)
def test_any_settings_rates_and_decay_of_pytorch(optimizer: Optimizer, rates: list[float], decay: float) -> None:
    torch = pytest.importorskip("torch")
    weights = torch.tensor(START, requires_grad=True)
    theirs = counterpart(torch, optimizer, weights, decay)
    if theirs is None:
        return
    for number, rate in enumerate(rates, start=1):
        weights.grad = torch.tensor(gradient_at(weights.detach().numpy(), number))
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
    found = followed(optimizer, START, rates, gradient_at, decay)
    np.testing.assert_allclose(found, weights.detach().numpy(), rtol=1e-8, atol=1e-9)
