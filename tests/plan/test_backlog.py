"""What one member leaves to another: all of it runs once, in its order, also when something fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Backward, Operands
from cnnspec.layers.dense import Dense
from cnnspec.plan import Team
from cnnspec.plan.backlog import Backlog
from cnnspec.plan.crew import Crew, Phase, Phases, Processes, Threads
from cnnspec.plan.memory import shared
from cnnspec.spec import loads
from cnnspec.train import Model

FORKS = Processes.supported()
CREWS = [Threads, *([Processes] if FORKS else [])]


class Events:
    """When each of several things happened, whoever did it; 0 for never."""

    def __init__(self, *names: str) -> None:
        self.times = dict(zip(names, shared((len(names), 2), "int64"), strict=True))

    def record(self, name: str) -> None:
        self.times[name][0] = time.monotonic_ns()
        self.times[name][1] += 1

    def step(self, name: str) -> Step:
        return partial(self.record, name)

    def clear(self) -> None:
        for when in self.times.values():
            when.fill(0)

    def counts(self) -> dict[str, int]:
        return {name: int(when[1]) for name, when in self.times.items() if when[1]}

    def in_order(self, *names: str) -> bool:
        times = [int(self.times[name][0]) for name in names]
        return times == sorted(times)


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("slow", ["gradient", "input"])
def test_what_waits_for_two_comes_behind_both(slow: str, size: int, made: type[Crew]) -> None:
    team = Team(size, made)
    backlog, events = Backlog(team), Events("gradient", "input", "update", "another", "then", "small", "over")

    def step(name: str) -> Step:
        def run() -> None:
            time.sleep(0.001 * (name == slow))
            events.record(name)

        return run

    end = backlog.passed(3, in_turn([events.step("over"), partial(backlog.last, (), over=True)]))
    behind = backlog.followed([step("update"), step("another")], in_turn([step("then"), end]))
    both = backlog.passed(2, partial(backlog.last, behind))
    steps: list[Step] = [
        partial(backlog.next, backlog.task(in_turn([step("gradient"), both]))),
        step("input"),
        both,
        partial(backlog.next, backlog.task(in_turn([step("small"), end]))),
    ]
    phases = [[backlog.reset], backlog.ending([in_turn(steps)], end)]
    for _ in range(40):
        events.clear()
        team.run(phases)
        assert events.counts() == dict.fromkeys(events.times, 1)
        for gradient in ("gradient", "input"):
            for update in ("update", "another"):
                assert events.in_order(gradient, update, "then", "over")
        assert events.in_order("input", "small", "over")
    team.close()


LEFT = ["half", "early", "too", "behind", "makes", "left", "makes too", "left too", "all left", "rest", "over"]


def programs(backlog: Backlog, count: int, step: Callable[[str], Step]) -> list[Phase]:
    """Several programs side by side, the first of them the slowest, that leave tasks half way and at the end."""
    half = [
        *backlog.followed([step("early"), step("too")], step("behind")),
        *backlog.leaving([(step("makes"), [step("left")]), (step("makes too"), [step("left too")])], step("all left")),
    ]
    rest = backlog.followed([step("rest")], partial(backlog.last, [backlog.task(step("over"))], over=True))
    place = backlog.passed(count, in_turn([step("half"), partial(backlog.last, half)]))
    slow = partial(time.sleep, 0.001)
    tasks = [in_turn([*[slow] * (i == 0), place, step(f"program {i}")]) for i in range(count)]
    return [[backlog.reset], backlog.ending(tasks, backlog.passed(count, partial(backlog.last, rest)))]


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_programs_leave_waits_for_all_of_them(count: int, size: int, made: type[Crew]) -> None:
    team, names = Team(size, made), [f"program {i}" for i in range(count)]
    events = Events(*names, *LEFT)
    phases = programs(Backlog(team), count, events.step)
    for _ in range(40):
        events.clear()
        team.run(phases)
        assert events.counts() == dict.fromkeys(events.times, 1)
        assert events.in_order("half", "early", "behind")
        assert events.in_order("half", "too", "behind")
        assert events.in_order("half", "makes", "left", "all left")
        assert events.in_order("half", "makes too", "left too", "all left")
        for name in names:
            assert events.in_order(name, "rest", "over")
    team.close()


def fails_and_is_whole_again(team: Team, phases: Phases, broken: Array, events: Events) -> None:
    """A run with a broken step raises its error, and in the one behind it everything happens once."""
    for _ in range(10):
        broken.fill(1)
        with pytest.raises(ValueError, match="broken step"):
            team.run(phases)
        broken.fill(0)
        events.clear()
        team.run(phases)
        assert events.counts() == dict.fromkeys(events.times, 1)
    team.close()


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("place", [*LEFT, "program 0", "program 1"])
def test_a_failure_of_what_programs_leave_is_raised(place: str, size: int, made: type[Crew]) -> None:
    team, broken = Team(size, made), shared((1,), "int64")
    events = Events("program 0", "program 1", *LEFT)

    def step(name: str) -> Step:
        def run() -> None:
            if broken[0] and name == place:
                raise ValueError("broken step")
            events.record(name)

        return run

    fails_and_is_whole_again(team, programs(Backlog(team), 2, step), broken, events)


@pytest.mark.parametrize("made", CREWS)
def test_a_helper_shares_the_work(made: type[Crew]) -> None:
    team = Team(2, made)
    backlog = Backlog(team)
    end = backlog.passed(11, partial(backlog.last, (), over=True))
    tasks = [backlog.task(in_turn([partial(time.sleep, 0.02), end])) for _ in range(10)]
    phases = [[backlog.reset], backlog.ending([partial(backlog.last, tasks)], end)]
    taken = []
    for _ in range(4):
        started = time.monotonic()
        team.run(phases)
        taken.append(time.monotonic() - started)
    assert 0.1 <= min(taken) < 0.19  # one alone needs 0.2
    team.close()


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("place", ["way", "task"])
def test_a_failure_is_raised_and_the_next_run_is_whole(place: str, size: int, made: type[Crew]) -> None:
    team = Team(size, made)
    backlog, broken, events = Backlog(team), shared((1,), "int64"), Events("way", "task")

    def fail(where: str) -> None:
        if broken[0] and where == place:
            raise ValueError("broken step")
        events.record(where)

    end = backlog.passed(2, partial(backlog.last, (), over=True))
    task = backlog.task(in_turn([partial(fail, "task"), end]))
    way = in_turn([partial(backlog.last, [task]), partial(fail, "way")])
    phases = [[backlog.reset], backlog.ending([way], end)]
    fails_and_is_whole_again(team, phases, broken, events)


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


class Slow:
    """Memory that helpers read slowly."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.caller = data, os.getpid()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> int:
        if os.getpid() != self.caller:
            time.sleep(0.001)
        return int(self.data[place])

    def __setitem__(self, place: int, value: int) -> None:
        self.data[place] = value


@pytest.mark.skipif(not FORKS, reason="no processes here that share memory")
@pytest.mark.parametrize("count", [5, 40])
def test_a_step_behind_one_that_failed_in_a_helper_is_whole(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was called for in the failed step must not bring it to a queue that is about to begin anew."""
    backward, caller, broken = Dense.backward, os.getpid(), shared((1,), "int64")

    def fail() -> None:
        if broken[0] and os.getpid() != caller:
            raise ValueError("broken step")
        time.sleep(0.02 if broken[0] else 0.003)

    def failing(layer: Dense, o: Operands) -> Backward:
        found = backward(layer, o)
        return replace(found, params=[fail, *found.params], input=[fail, *found.input])

    monkeypatch.setattr(Dense, "backward", failing)
    monkeypatch.setattr(
        "cnnspec.plan.backlog.shared", lambda shape, dtype: SimpleNamespace(data=Slow(shared(shape, dtype).data))
    )
    net = model(2, NET.replace("momentum: 0.9, ", ""))
    plan, random, start = net.plan(count, "train", "float32"), np.random.default_rng(1), net.weights.values.copy()
    plan.images[...], plan.labels[...] = random.random(plan.images.shape), random.integers(0, 3, count)
    assert net.training is not None
    results = []
    for failures in [0, *[1] * 10]:
        for value in [1] * failures + [0]:
            net.weights.values[...] = start
            net.weights.version += 1
            net.training.pulls.fill(0)
            broken.fill(value)
            with pytest.raises(ValueError, match="broken step") if value else nullcontext():
                plan.step(0.1)
        results.append(net.weights.values.copy())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("count", [5, 40])
def test_a_loss_that_is_no_number_leaves_the_weights(count: int) -> None:
    net = model(2)
    plan, before = net.plan(count, "train", "float32"), net.weights.values.copy()
    plan.images[0] = np.inf
    plan.step(0.1)
    assert not plan.gate.good
    np.testing.assert_array_equal(net.weights.values, before)
