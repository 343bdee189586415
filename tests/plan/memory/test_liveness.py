"""Arrays that share bytes: on any graph the results are those of arrays that all lie apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.graph import INPUT, Graph
from cnnspec.graph.passes import TRAINING, optimise
from cnnspec.layers.activation import Relu
from cnnspec.layers.base import Mode
from cnnspec.layers.norm import BatchNorm
from cnnspec.optim.losses import SoftmaxCrossEntropy
from cnnspec.plan import Choices, arena_bytes
from cnnspec.plan.memory.liveness import Key, gradient_key, layouts, value_key
from cnnspec.plan.schedule.partition import divide
from cnnspec.workers import WorkerPool
from tests.plan.graphs import LAYERS, classifier, graphs, node, results


@pytest.mark.parametrize("mode", ["train", "infer"])
@settings(max_examples=15, deadline=None)
@given(graphs(), st.sampled_from([3, 33]))
def test_reuse_changes_no_bit(mode: Mode, graph: Graph, count: int) -> None:
    reused, apart = (results(graph, count, mode, WorkerPool(1), Choices(reuse_memory=reuse)) for reuse in (True, False))
    for name, array in apart.items():
        np.testing.assert_array_equal(reused[name], array, err_msg=name)


@settings(max_examples=20, deadline=None)
@given(graphs(), st.sampled_from([3, 33]))
def test_reuse_takes_less(graph: Graph, count: int) -> None:
    loss = SoftmaxCrossEntropy()
    reused, apart = (
        arena_bytes(graph, count, "train", loss=loss, choices=Choices(reuse_memory=reuse)) for reuse in (True, False)
    )
    assert reused < apart


def places(graph: Graph) -> dict[Key, int]:
    optimised = optimise(graph, TRAINING)
    partition = divide(optimised, 64, "train")
    return dict(layouts(optimised, partition, "train", "float32", SoftmaxCrossEntropy())[1][0].offsets)


def test_a_residual_block_copies_nothing() -> None:
    """What a fork and a sum pass on lies where it was; batch normalisation spends its input on its gradient."""
    nodes = [node("a", LAYERS[-1], INPUT), node("relu", Relu(), "a"), node("b", LAYERS[-1], "relu")]
    nodes += [node("norm", BatchNorm(), "b"), node("add", LAYERS[4], "norm", "relu"), node("c", LAYERS[-1], "add")]
    at = places(classifier(nodes))
    assert at[value_key("relu:fork")] == at[value_key("relu")]
    assert at[value_key("add")] == at[value_key("norm")]
    assert at[gradient_key("norm", "add", 0)] == at[gradient_key("relu:fork", "add", 1)] == at[gradient_key("add", "c")]
    assert at[gradient_key("b", "norm")] == at[value_key("b")]
    assert at[gradient_key("relu", "relu:fork")] == at[gradient_key("relu:fork", "b")]
