"""Updates that follow their gradients in the same run equal those at its end, whoever is slow."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.layers.base import Backward, Operands
from cnnspec.layers.dense import Dense
from cnnspec.spec import loads

NET = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - flatten
  - {type: dense, units: 200}
  - relu
  - {type: dense, units: 3}
train:
  epochs: 1
  ema: 0.9
  clip: {value: 0.05}
  optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01}
"""


def model(threads: int, text: str = NET) -> Model:
    spec = loads(text)
    return Model(spec, build(spec), threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [5, 40])
def test_updates_on_the_way_equal_updates_at_the_end(threads: int, count: int) -> None:
    """A parameter of 28,800 elements is updated on the way, the others behind it; nothing is left out."""
    results = []
    for halves in (False, True):
        net = model(threads)
        plan, random = net.plan(count, "train", "float32"), np.random.default_rng(1)
        assert plan.eager
        for _ in range(4):
            plan.images[...], plan.labels[...] = random.random(plan.images.shape), random.integers(0, 3, count)
            if halves:
                plan.gradients()
                plan.apply(0.1)
            else:
                plan.step(0.1)
        with net.averaged():
            average = net.weights.values.copy()
        results.append(np.concatenate([net.weights.values, average]))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("slow", ["input", "params"])
@pytest.mark.parametrize("count", [5, 40])
def test_no_update_overtakes_who_reads_the_weights(slow: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever gradient takes longer, in whichever shard, the input's is that of the weights before the step."""
    backward = Dense.backward

    def late(layer: Dense, o: Operands) -> Backward:
        found = backward(layer, o)
        steps = [lambda: time.sleep(0.01 * (o.shard == 0)), *getattr(found, slow)]
        return replace(found, **{slow: steps})

    results = []
    monkeypatch.setattr(Dense, "backward", late)
    for threads in (1, 2):
        net, random = model(threads), np.random.default_rng(1)
        plan = net.plan(count, "train", "float32")
        for _ in range(3):
            plan.images[...], plan.labels[...] = random.random(plan.images.shape), random.integers(0, 3, count)
            plan.step(0.1)
        results.append(net.weights.values.copy())
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("count", [5, 40])
def test_a_loss_that_is_no_number_leaves_the_weights(count: int) -> None:
    net = model(2)
    plan, before = net.plan(count, "train", "float32"), net.weights.values.copy()
    plan.images[0] = np.inf
    plan.step(0.1)
    assert not plan.gate.good
    np.testing.assert_array_equal(net.weights.values, before)
