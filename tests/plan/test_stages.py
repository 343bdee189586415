"""One shard on two members: where layers are cut, and that no member depends on when another gets where."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings

from cnnspec.graph import INPUT, Graph, build
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.layers.activation import Relu
from cnnspec.layers.base import Mode
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.merge import Add
from cnnspec.layers.pool import MaxPool2d
from cnnspec.optim.losses import SoftmaxCrossEntropy
from cnnspec.optim.optimizers import Sgd
from cnnspec.plan import Entry, Training, Weights, lower, stages
from cnnspec.spec import loads
from cnnspec.workers import Program, WorkerPool
from tests.plan.test_sharing import SHAPE, graphs, node

NET = """
cnnspec: 1
name: net
input: [1, 28, 28]
layers:
  - {type: conv2d, filters: 20, kernel_size: 5, kernel: patches}
  - relu
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 50, kernel_size: 5}
  - batch_norm
  - relu
  - {type: max_pool2d, kernel_size: 3, stride: 2}
  - flatten
  - {type: dense, units: 500}
  - relu
  - {type: dense, units: 10}
"""


class Backwards(WorkerPool):
    """Runs the members' tasks of every stage one after the other, the last one first."""

    forks = True

    def run(self, phases: Program) -> None:
        """All but the last phase in that order."""
        super().run([list(reversed(phase)) for phase in phases[:-1]])
        super().run(phases[-1:])


@pytest.fixture
def however_small() -> Iterator[None]:
    """Cut whatever can be cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "LEAST", 0)
        yield


def cut_of(mode: Mode, n: int) -> list[tuple[list[str], list[int]]]:
    """The names of each stage's nodes, and the first row of the second member."""
    graph = optimise(build(loads(NET)), PASSES[mode])
    found = stages.stages(graph, n, mode)
    return [
        ([node.name for node in stage.nodes], [cuts[1].rows.start for cuts in stage.cuts.values()]) for stage in found
    ]


def test_layers_go_on_without_a_meeting_as_far_as_rows_allow() -> None:
    assert cut_of("infer", 1) == [
        (["conv2d_1", "relu_1", "max_pool2d_1"], [12, 6, 6]),
        (["batch_norm_1"], [4]),
        (["relu_2", "max_pool2d_2", "flatten_1"], []),
        (["dense_1", "relu_3"], [250, 250]),
        (["dense_2"], []),
    ]


def test_statistics_of_the_batch_are_one_members_work() -> None:
    assert any("batch_norm_1" in names for names, rows in cut_of("train", 5) if not rows)


def results(graph: Graph, mode: Mode, team: WorkerPool) -> list[bytes]:
    """What three images give, in an arena full of NaN."""
    weights, random = Weights(graph, dtype="float64"), np.random.default_rng(0)
    weights.values[...] = random.standard_normal(weights.values.shape)
    training = Training(weights, Sgd(learning_rate=0.1)) if mode == "train" else None
    loss = SoftmaxCrossEntropy() if training else None
    plan = lower(graph, 3, mode, weights, team, loss=loss, training=training, passes={})
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.arena.view(np.float64).fill(np.nan)
    plan.compute()
    found = [plan.losses, *training.gradients] if training else [plan.output]
    assert all(np.isfinite(array).all() for array in found)
    return [array.tobytes() for array in found]


@pytest.mark.usefixtures("however_small")
@pytest.mark.parametrize("mode", ["train", "infer"])
@settings(max_examples=60, deadline=None)
@given(graphs())
def test_the_order_of_members_changes_no_bit(mode: Mode, graph: Graph) -> None:
    """Whoever is first, nothing that the other one reads was overwritten, and nothing read that is not there yet."""
    assert results(graph, mode, Backwards(1)) == results(graph, mode, WorkerPool(1))


@pytest.mark.usefixtures("however_small")
def test_nobody_works_in_place_where_another_member_still_reads() -> None:
    nodes = [
        node("map", Conv2d(filters=2, kernel_size=(1, 1)), INPUT),
        node("pool", MaxPool2d(kernel_size=(3, 1), stride=(1, 1), padding=(1, 1, 0, 0)), "map"),
        node("relu", Relu(), "map"),
        node("add", Add(), "pool", "relu"),
    ]
    graph = Graph("beside", SHAPE, tuple(nodes), "add")
    assert [[each.name for each in stage.nodes] for stage in stages.stages(graph, 3, "infer")][1] == [
        "pool",
        "relu",
        "add",
    ]
    assert results(graph, "infer", Backwards(1)) == results(graph, "infer", WorkerPool(1))


LENET = (
    NET.replace(", kernel: patches", "")
    .replace("  - batch_norm\n", "")
    .replace("kernel_size: 3, stride: 2", "kernel_size: 2")
)


@pytest.mark.parametrize(
    ("first", "batch", "copied"), [("- relu", 1, True), ("- sigmoid", 1, True), ("", 1, False), ("", 2, True)]
)
def test_one_image_that_lies_as_it_should_is_read_where_it_is(first: str, batch: int, copied: bool) -> None:
    """And only where nobody writes to it."""
    graph = optimise(build(loads(LENET.replace("layers:\n", f"layers:\n  {first}\n"))), PASSES["infer"])
    weights, random = Weights(graph, dtype="float64"), np.random.default_rng(0)
    weights.values[...] = random.standard_normal(weights.values.shape)
    plan, pair = (lower(graph, n, "infer", weights, WorkerPool(1), entry=Entry("float64")) for n in (batch, 2))
    images = random.standard_normal((2, 1, 28, 28))
    for one in (plan, pair):
        one.images[...] = images[: one.batch]
        one.compute()
    assert (plan.images == images[:batch]).all()
    np.testing.assert_allclose(plan.output, pair.output[:batch], rtol=1e-10)
    assert len(pair.phases) - len(plan.phases) == (0 if copied else 1)
