"""Arrays that lie in one another's place: on any graph the results are those of arrays that all lie apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import TRAINING, optimise
from cnnspec.kernels.step import Array
from cnnspec.layers.activation import Relu, Sigmoid
from cnnspec.layers.base import Layer
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.merge import Add, Multiply
from cnnspec.layers.norm import BatchNorm
from cnnspec.layers.pool import GlobalAvgPool2d, MaxPool2d
from cnnspec.layers.prelu import Prelu
from cnnspec.optim.losses import SoftmaxCrossEntropy
from cnnspec.optim.optimizers import Sgd
from cnnspec.plan import Training, Weights, lower, shards_of
from cnnspec.plan.layout import Key, _Timeline, gradient_key, lay_out, value_key
from cnnspec.workers import WorkerPool

SHAPE = (2, 3, 2)
LAYERS: list[Layer] = [
    Relu(),
    Sigmoid(),
    Prelu(),
    BatchNorm(),
    Add(),
    Multiply(),
    MaxPool2d(kernel_size=(3, 1), stride=(1, 1), padding=(1, 1, 0, 0)),
    Conv2d(filters=2, kernel_size=(1, 1)),
]


def node(name: str, layer: Layer, *inputs: str) -> Node:
    shapes = (SHAPE,) * len(inputs)
    return Node(name, layer, inputs, shapes, SHAPE, params=layer.params(*shapes), state=layer.state(*shapes))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = [node("0", Conv2d(filters=2, kernel_size=(1, 1)), INPUT)]
    for name in range(1, draw(st.integers(2, 12))):
        layer = draw(st.sampled_from(LAYERS))
        count = draw(st.integers(1, 3)) if layer.arity[1] is None else 1
        # mostly of the last few, so that long chains meet short ones
        inputs = [str(draw(st.integers(max(0, name - 4), name - 1))) for _ in range(count)]
        nodes.append(node(str(name), layer, *inputs))
    return classifier(nodes)


def classifier(nodes: list[Node]) -> Graph:
    """The graph that dead nodes are taken from and forks are put into, as training does."""
    output = Node("logits", GlobalAvgPool2d(), (nodes[-1].name,), (SHAPE,), SHAPE[:1])
    return optimise(Graph("random", SHAPE, (*nodes, output), "logits"), TRAINING)


@contextmanager
def apart() -> Iterator[None]:
    def claim(self: _Timeline, key: Key, owner: Key, last: int) -> None:
        shape, dtype, _ = self.arrays[owner]
        self.claim(key, shape, dtype, -1, 2 * self.end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Timeline, "share", claim)
        yield


def step(graph: Graph, count: int) -> list[bytes]:
    """Losses, gradients and running statistics of a step in an arena full of NaN."""
    weights, random = Weights(graph, dtype="float64"), np.random.default_rng(0)
    weights.values[...] = random.standard_normal(weights.values.shape)
    training = Training(weights, Sgd(learning_rate=0.1), len(shards_of(count)))
    plan = lower(graph, count, "train", weights, WorkerPool(1), loss=SoftmaxCrossEntropy(), training=training)
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.arena.view(np.float64).fill(np.nan)
    plan.compute()
    found: list[Array] = [plan.losses, *training.gradients, *weights.state.values()]
    assert all(np.isfinite(array).all() for array in found)
    return [array.tobytes() for array in found]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from([3, 33]))
def test_sharing_changes_no_bit(graph: Graph, count: int) -> None:
    shared = step(graph, count)
    with apart():
        assert step(graph, count) == shared


def places(graph: Graph) -> dict[Key, int]:
    return dict(lay_out(graph, 32, "train", "float32", SoftmaxCrossEntropy()).offsets)


def test_a_residual_block_copies_nothing() -> None:
    """What `fork` and `add` pass on lies where it was; batch normalisation spends its input on its gradient."""
    nodes = [node("a", LAYERS[-1], INPUT), node("relu", Relu(), "a"), node("b", LAYERS[-1], "relu")]
    nodes += [node("norm", BatchNorm(), "b"), node("add", Add(), "norm", "relu"), node("c", LAYERS[-1], "add")]
    at = places(classifier(nodes))
    assert at[value_key("relu:fork")] == at[value_key("relu")]
    assert at[value_key("add")] == at[value_key("norm")]
    assert at[gradient_key("norm", "add", 0)] == at[gradient_key("relu:fork", "add", 1)] == at[gradient_key("add", "c")]
    assert at[gradient_key("b", "norm")] == at[value_key("b")]
    assert at[gradient_key("relu", "relu:fork")] == at[gradient_key("relu:fork", "b")]
