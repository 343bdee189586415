"""Clipping, accumulation and averages: against plain formulas on a whole network, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.spec import loads

SPEC = """
cnnspec: 1
name: net
input: [1, 6, 6]
layers:
  - {{type: conv2d, filters: 4, kernel_size: 3}}
  - tanh
  - flatten
  - {{id: out, type: dense, units: 3}}
train: {{epochs: 1, optimizer: {{type: sgd, learning_rate: 0.5, momentum: {momentum}}}{more}}}
"""


NORM = """
  - {type: conv2d, filters: 4, kernel_size: 3, padding: same, id: held, trainable: false}
  - batch_norm
  - tanh"""


def model(more: str = "", threads: int = 1, momentum: float = 0.0, *, norm: bool = False) -> Model:
    text = SPEC.format(more=f", {more}" if more else "", momentum=momentum)
    spec = loads(text.replace("\n  - tanh", NORM) if norm else text)
    return Model(spec, build(spec), threads=threads, dtype="float64")


def step(net: Model, seed: int, count: int = 40) -> None:
    plan, random = net.plan(count, "train", "float64"), np.random.default_rng(seed)
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.labels[...] = random.integers(0, 3, count)
    plan.step(0.5)


def moved(net: Model) -> Array:
    """The first step's gradient, read off the weights at a rate of 0.5."""
    before = net.weights.values.copy()
    step(net, 0)
    return (before - net.weights.values) / 0.5


def test_the_norm_is_bounded() -> None:
    free = moved(model())
    length = float(np.linalg.norm(free))
    np.testing.assert_allclose(moved(model(f"clip: {{norm: {length / 4}}}")), free / 4, rtol=1e-9)
    np.testing.assert_allclose(moved(model(f"clip: {{norm: {length * 4}}}")), free, rtol=1e-9)


def test_every_value_is_bounded() -> None:
    free = moved(model())
    limit = float(np.quantile(np.abs(free), 0.7))
    np.testing.assert_allclose(moved(model(f"clip: {{value: {limit}}}")), np.clip(free, -limit, limit), rtol=1e-9)


def test_accumulated_steps_make_the_update_of_a_large_batch() -> None:
    small, large = model("accumulate: 4"), model()
    start = small.weights.values.copy()
    for seed in range(4):
        np.testing.assert_array_equal(small.weights.values, start)
        step(small, seed, count=10)
    parts = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        parts.append((random.standard_normal((10, 1, 6, 6)), random.integers(0, 3, 10)))
    plan = large.plan(40, "train", "float64")
    plan.images[...] = np.concatenate([images for images, _ in parts])
    plan.labels[...] = np.concatenate([labels for _, labels in parts])
    plan.step(0.5)
    np.testing.assert_allclose(small.weights.values, large.weights.values, rtol=1e-9, atol=1e-14)


def everything(net: Model) -> dict[str, Array]:
    return {name: array.copy() for name, array in net.weights.arrays()}


@pytest.mark.parametrize(("accumulate", "count"), [(1, 40), (1, 5), (3, 40)])
def test_averages_follow_weights_and_statistics(accumulate: int, count: int) -> None:
    """Against a loop over what weights and statistics were behind every update, long enough for the decay to bind."""
    net = model(f"ema: 0.5, accumulate: {accumulate}", momentum=0.9, norm=True)
    expected = everything(net)
    for update in range(1, 16):
        before = everything(net)
        for part in range(accumulate):
            step(net, accumulate * update + part, count)
        share = max(0.5, 10 / (9 + update))
        for name, array in net.weights.arrays():
            assert (array == before[name]).all() == name.startswith("held.")
            expected[name] = (1 - share) * expected[name] + share * array
        raw = everything(net)
        with net.averaged():
            for name, array in net.weights.arrays():
                np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-15)
        assert all((array == raw[name]).all() for name, array in net.weights.arrays())
    assert net.training is not None
    net.training.adopt_averages()
    for name, array in net.weights.arrays():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-15)


def test_there_is_no_average_before_the_first_update() -> None:
    net = model("ema: 0.9, accumulate: 2", norm=True)
    step(net, 0)
    raw = everything(net)
    with net.averaged():
        assert all((array == raw[name]).all() for name, array in net.weights.arrays())
    step(net, 1)
    raw = everything(net)
    with net.averaged():  # a copy, to the bit
        assert all((array == raw[name]).all() for name, array in net.weights.arrays())


@pytest.mark.parametrize("more", ["clip: {norm: 0.1}", "accumulate: 2, ema: 0.9", "clip: {value: 0.01}, ema: 0.5"])
def test_threads_do_not_matter(more: str) -> None:
    found: list[Any] = []
    for threads in (1, 2, 4):
        net = model(more, threads, norm=True)
        for seed in range(5):
            step(net, seed, count=70)
        assert net.training is not None
        kept = [*net.weights.arrays(), *net.training.arrays().items()]
        found.append({name: array.tobytes() for name, array in kept})
    assert found[0] == found[1] == found[2]


SHARED = """
  - {type: conv2d, filters: 4, kernel_size: 3, padding: same, id: one}
  - {type: conv2d, filters: 4, kernel_size: 3, padding: same, share: one}
  - tanh"""


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("more", ["", "clip: {value: 0.01}", "clip: {norm: 0.1}", "shared"])
def test_the_rate_may_change_and_be_0(more: str, count: int) -> None:
    """v = momentum v + g, w -= rate v: what the rate was when v began to grow is not to be seen."""
    clip = more if "clip" in more else ""
    text = SPEC.format(more=f", {clip}" if clip else "", momentum="0.9, weight_decay: 0.1")
    spec = loads(text.replace("\n  - tanh", SHARED) if more == "shared" else text)
    net, twin = (Model(spec, build(spec), threads=1, dtype="float64") for _ in range(2))
    assert net.training is not None
    assert twin.training is not None
    decay, velocity = np.zeros_like(net.weights.values), np.zeros_like(net.weights.values)
    for segment in net.weights.segments:
        decay[segment.start : segment.stop] = segment.rule.weight_decay
    assert set(decay) == {0, 0.1}
    for number, rate in enumerate([0.5, 0.02, 0.0, 0.3, 0.3]):
        before = net.weights.values.copy()
        twin.weights.load(dict(net.weights.arrays()))
        for one in (net, twin):
            plan, random = one.plan(count, "train", "float64"), np.random.default_rng(number)
            plan.images[...] = random.standard_normal(plan.images.shape)
            plan.labels[...] = random.integers(0, 3, count)
        twin.plan(count, "train", "float64").compute()
        gradient = twin.training.gradients[0]
        if "value" in more:
            gradient = np.clip(gradient, -0.01, 0.01)
        elif "norm" in more:
            gradient *= min(1, 0.1 / np.linalg.norm(gradient))
        velocity = 0.9 * velocity + gradient + decay * before
        net.plan(count, "train", "float64").step(rate)
        np.testing.assert_allclose(net.weights.values, before - rate * velocity, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("more", ["", "clip: {norm: 0.1}", "accumulate: 2", "ema: 0.9"])
def test_a_network_without_parameters_takes_its_steps(more: str) -> None:
    text = "cnnspec: 1\nname: none\ninput: [3]\nlayers: [relu]\ntrain: {epochs: 1%s}\n"
    spec = loads(text % (f", {more}" if more else ""))
    net = Model(spec, build(spec), threads=1, dtype="float64")
    for count in (1, 40):
        plan = net.plan(count, "train", "float64")
        plan.images[...] = 1
        plan.step(0.1)
        plan.step(0.1)
        np.testing.assert_allclose(plan.losses, np.log(3))


@pytest.mark.parametrize("threads", [1, 2])
def test_norms_are_those_of_the_gradient_that_the_optimizer_gets(threads: int) -> None:
    """Without momentum the weights move by the gradient, half of it at a rate of 0.5."""
    net = model(threads=threads, norm=True)
    assert net.training is not None
    step(net, 0)
    assert net.training.norms.found() == {}
    net.training.norms.watched.fill(True)
    before = {name: array.copy() for name, array in net.params.items()}
    step(net, 1)
    net.training.norms.watched.fill(False)
    expected: dict[str, float] = {}
    for name, array in net.params.items():
        layer = name.rpartition(".")[0]
        expected[layer] = expected.get(layer, 0.0) + float(np.square((before[name] - array) / 0.5).sum())
    found = net.training.norms.found()
    assert expected.pop("held") == 0
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[name] for name in expected], np.sqrt(list(expected.values())), rtol=1e-9)
    step(net, 2)
    assert net.training.norms.found() == found
    net.workers.close()


def test_norms_of_large_parameters_add_up_over_their_chunks() -> None:
    text = SPEC.format(more="", momentum=0.0).replace("[1, 6, 6]", "[1, 40, 40]").replace("units: 3", "units: 60")
    spec = loads(text)
    net = Model(spec, build(spec), threads=1, dtype="float64")
    assert net.training is not None
    net.training.norms.watched.fill(True)
    before = net.params["out.weight"].copy(), net.params["out.bias"].copy()
    step(net, 0)
    moved_by = (before[0] - net.params["out.weight"]) / 0.5, (before[1] - net.params["out.bias"]) / 0.5
    expected = np.sqrt(sum(np.square(part).sum() for part in moved_by))
    np.testing.assert_allclose(net.training.norms.found()["out"], expected, rtol=1e-9)
