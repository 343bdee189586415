"""What one thread leaves to another: all of it runs once, in its order, also when something fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.plan import Team
from cnnspec.plan.backlog import Backlog
from cnnspec.spec import loads
from cnnspec.train import Model


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_that_is_left_runs_once_and_what_is_awaited_in_time(size: int) -> None:
    team, backlog, events = Team(size), Backlog(), list[str]()

    def slow() -> None:
        time.sleep(0.001)
        events.append("needed")

    needed, wait = backlog.awaited(slow)
    gradient = backlog.followed([lambda: events.append("gradient")], [lambda: events.append("update")])
    there = [lambda: backlog.last([lambda: events.append("first"), needed]), wait, lambda: events.append("there")]
    phases = [backlog.phase(there, [lambda: backlog.next(gradient)], lambda: True)]
    for _ in range(100):
        events.clear()
        team.run(phases)
        assert sorted(events) == ["first", "gradient", "needed", "there", "update"]
        assert events.index("first") < events.index("needed") < events.index("there")
        assert events.index("gradient") < events.index("update")
    team.close()


def test_the_way_back_is_gone_only_if_wanted() -> None:
    backlog, events = Backlog(), list[str]()
    Team(1).run([backlog.phase([lambda: events.append("there")], [lambda: events.append("back")], lambda: False)])
    assert events == ["there"]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("place", ["way", "task"])
def test_a_failure_is_raised_and_the_next_run_is_whole(size: int, place: str) -> None:
    team, backlog, broken, ran = Team(size), Backlog(), threading.Event(), list[str]()

    def fail(where: str) -> None:
        if broken.is_set() and where == place:
            raise ValueError("broken step")
        ran.append(where)

    there = [lambda: backlog.last([lambda: fail("task")]), lambda: fail("way")]
    phases = [backlog.phase(there, [], lambda: True)]
    broken.set()
    with pytest.raises(ValueError, match="broken step"):
        team.run(phases)
    broken.clear()
    ran.clear()
    team.run(phases)
    assert sorted(ran) == ["task", "way"]
    team.close()


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


def model(threads: int) -> Model:
    spec = loads(NET)
    return Model(spec, build(spec), threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_updates_on_the_way_equal_updates_at_the_end(threads: int) -> None:
    """A parameter of 28,800 elements is updated on the way, the others behind it; nothing is left out."""
    results = []
    for halves in (False, True):
        net = model(threads)
        plan, random = net.plan(5, "train", "float32"), np.random.default_rng(1)
        assert plan.eager
        for _ in range(4):
            plan.images[...], plan.labels[...] = random.random(plan.images.shape), random.integers(0, 3, 5)
            if halves:
                plan.gradients()
                plan.apply(0.1)
            else:
                plan.step(0.1)
        with net.averaged():
            average = net.weights.values.copy()
        results.append(np.concatenate([net.weights.values, average]))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("count", [5, 40])
def test_a_loss_that_is_no_number_leaves_the_weights(count: int) -> None:
    net = model(2)
    plan, before = net.plan(count, "train", "float32"), net.weights.values.copy()
    plan.images[0] = np.inf
    plan.step(0.1)
    assert not plan.finite
    np.testing.assert_array_equal(net.weights.values, before)
