"""Random small graphs of layers that overwrite, pass on and keep arrays, and what a plan makes of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.activation import Relu, Sigmoid
from cnnspec.layers.base import Layer, Mode
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.dense import Dense
from cnnspec.layers.merge import Add, Multiply
from cnnspec.layers.norm import BatchNorm
from cnnspec.layers.pool import GlobalAvgPool2d, MaxPool2d
from cnnspec.layers.prelu import Prelu
from cnnspec.optim.losses import SoftmaxCrossEntropy
from cnnspec.optim.optimizers import Sgd
from cnnspec.plan import Choices, Plan, Training, Weights, lower
from cnnspec.workers import WorkerPool

SHAPE = (2, 6, 3)
LAYERS: list[Layer] = [
    Relu(),
    Sigmoid(),
    Prelu(),
    BatchNorm(),
    Add(),
    Multiply(),
    MaxPool2d(kernel_size=(3, 1), stride=(1, 1), padding=(1, 1, 0, 0)),
    Conv2d(filters=2, kernel_size=(1, 1)),
    Conv2d(filters=2, kernel_size=(3, 3), padding=(1, 1)),
]


def node(name: str, layer: Layer, *inputs: str, shapes: tuple[tuple[int, ...], ...] | None = None) -> Node:
    """A node of a graph whose values all have one shape, unless the inputs' shapes are given."""
    known = shapes or (SHAPE,) * len(inputs)
    return Node(
        name,
        layer,
        inputs,
        known,
        layer.infer_shape(*known),
        params=layer.params(*known),
        state=layer.state(*known),
        macs=layer.cost(*known),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of up to 12 layers, of which some tie their parameters, with a classifier of two large layers."""
    nodes = [node("0", Conv2d(filters=2, kernel_size=(1, 1)), INPUT)]
    for name in range(1, draw(st.integers(2, 12))):
        layer = draw(st.sampled_from(LAYERS))
        count = draw(st.integers(1, 3)) if layer.arity[1] is None else 1
        # mostly of the last few, so that long chains meet short ones
        inputs = [str(draw(st.integers(max(0, name - 4), name - 1))) for _ in range(count)]
        nodes.append(node(str(name), layer, *inputs))
    return classifier(nodes)


def classifier(nodes: list[Node]) -> Graph:
    """A graph that ends with an average over the map and two dense layers, the first of which is large."""
    pooled = node("pooled", GlobalAvgPool2d(), nodes[-1].name)
    wide = node("wide", Dense(units=8200), "pooled", shapes=(SHAPE[:1],))
    logits = node("logits", Dense(units=2), "wide", shapes=((8200,),))
    return Graph("random", SHAPE, (*nodes, pooled, wide, logits), "logits")


def plan_of(graph: Graph, count: int, mode: Mode, workers: WorkerPool, choices: Choices) -> tuple[Plan, Training]:
    """A plan in float64 on random weights and images, whose arena holds nothing but NaN."""
    weights, random = Weights(graph, dtype="float64"), np.random.default_rng(0)
    weights.values[...] = random.standard_normal(weights.values.shape) / 4
    training = Training(weights, Sgd(learning_rate=0.1, momentum=0.9))
    of_mode, loss = (training, SoftmaxCrossEntropy()) if mode == "train" else (None, None)
    plan = lower(graph, count, mode, weights, workers, loss=loss, training=of_mode, choices=choices)
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.labels[...] = random.integers(0, 2, plan.labels.shape)
    plan.arena.view(np.float64).fill(np.nan)
    return plan, training


def results(graph: Graph, count: int, mode: Mode, workers: WorkerPool, choices: Choices) -> dict[str, Array]:
    """What a plan makes of random numbers: outputs, or losses, gradients, weights and statistics after two steps."""
    plan, training = plan_of(graph, count, mode, workers, choices)
    if mode == "infer":
        plan.compute()
        found = {"output": plan.output}
    else:
        plan.compute()
        found = {"losses": plan.losses.copy(), "gradient": training.gradients[0].copy()}
        plan.step(0.1)
        plan.step(0.05)
        found |= dict(plan.weights.arrays())
    assert all(np.isfinite(array).all() for array in found.values())
    return found
