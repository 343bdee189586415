"""The dependency graph of tasks: whatever two workers may do at once touches no array in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.graph import Graph, build
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.optim.losses import SoftmaxCrossEntropy
from cnnspec.optim.optimizers import Adam
from cnnspec.optim.settings import Clip
from cnnspec.plan import Training, Weights, lower
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.ranks import Operation, SingleRank
from cnnspec.spec import load
from cnnspec.workers import WorkerPool
from tests.plan.graphs import graphs

TRAININGS: list[Callable[[Weights], Training]] = [
    lambda weights: Training(weights, Adam()),
    lambda weights: Training(weights, Adam(), clip=Clip(norm=0.1), average=0.9),
    lambda weights: Training(weights, Adam(), accumulate=2),
]


class Forking(WorkerPool):
    """A pool of one worker that is planned for as if there were processes."""

    forks = True


class Silent(SingleRank):
    """The first of several ranks, whom the others tell nothing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def trading(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> Operation:
        """Leave what was there."""
        return self.gathering(taken, take)


def observed(
    graph: Graph, count: int, mode: Mode, training: Callable[[Weights], Training], ranks: int = 1
) -> list[TaskGraph]:
    """All task graphs of a plan."""
    found: list[TaskGraph] = []
    weights = Weights(graph, 0.1)
    state = training(weights) if mode == "train" else None
    loss = SoftmaxCrossEntropy()
    plan = lower(
        graph,
        count,
        mode,
        weights,
        Forking(1),
        loss=loss,
        training=state,
        exchange=Silent(ranks),
        observe=found.append,
    )
    plan.compute()
    return found


def overlaps(some: Array, other: Array) -> bool:
    return bool(some.size and other.size and np.may_share_memory(some, other) and np.shares_memory(some, other))


def conflicts(tasks: TaskGraph) -> list[str]:
    """Pairs of tasks that may run at once, of which one writes what the other reads or writes."""
    found = []
    for first, second in tasks.concurrent():
        pairs = [(a, b) for a in first.writes for b in (*second.reads, *second.writes)]
        pairs += [(a, b) for a in first.reads for b in second.writes]
        if any(overlaps(a, b) for a, b in pairs):
            found.append(f"{first.kind} {first.name} beside {second.kind} {second.name}")
    return found


@settings(max_examples=12, deadline=None)
@given(graph=graphs(), count=st.sampled_from([3, 33, 70]), training=st.sampled_from(TRAININGS))
def test_tasks_that_may_run_at_once_touch_nothing_in_common(
    graph: Graph, count: int, training: Callable[[Weights], Training]
) -> None:
    for mode in ("train", "infer"):
        for tasks in observed(graph, count, mode, training):
            assert conflicts(tasks) == []


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("count", [3, 33, 70])
@settings(max_examples=50, deadline=None)
@given(graph=graphs())
def test_those_of_many_random_graphs_neither(training: Callable[[Weights], Training], count: int, graph: Graph) -> None:
    for mode in ("train", "infer"):
        for tasks in observed(graph, count, mode, training):
            assert conflicts(tasks) == []


@pytest.mark.parametrize("spec", ["lenet", "resnet20"])
@pytest.mark.parametrize(("count", "ranks"), [(4, 1), (64, 1), (160, 2)])
def test_those_of_real_networks_neither(spec: str, count: int, ranks: int) -> None:
    graph = build(load(f"specs/{spec}.yaml"))
    for tasks in observed(graph, count, "train", TRAININGS[0], ranks):
        assert conflicts(tasks) == []


def test_gradients_travel_while_the_backward_pass_goes_on() -> None:
    """Those of LeNet's dense layers, which are most, begin to before those of its convolutions are made."""
    _, update, *_ = observed(build(load("specs/lenet.yaml")), 64, "train", TRAININGS[0], ranks=2)
    first, second = [index for index, task in enumerate(update.tasks) if task.kind == "exchange"][:2]
    made = [(index, task.name) for index, task in enumerate(update.tasks) if task.kind == "params"]
    assert {name for index, name in made if index < first} == {"logits", "dense_1"}
    assert {name for index, name in made if first < index < second} == {"conv2d_2"}
    assert {name for index, name in made if index > second} == {"dense_1", "conv2d_1"}  # by rows, of all ranks' images


def test_the_check_finds_a_conflict() -> None:
    array = np.zeros(4)
    tasks = TaskGraph()
    first = tasks.add(Task("a", "forward", [], lane=0, writes=[array[:2]]))
    tasks.add(Task("b", "forward", [], lane=1, reads=[array[1:]]))
    tasks.add(Task("c", "forward", [], lane=1, after=(first,), reads=[array]))
    assert conflicts(tasks) == ["forward a beside forward b"]
