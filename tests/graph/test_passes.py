"""Passes: each leaves the network's results what they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.graph import Graph, build
from cnnspec.graph.fusions.folded_batch_norm import fold_batch_norm
from cnnspec.graph.passes import (
    INFERENCE,
    TRAINING,
    Pass,
    activation_behind_pooling,
    explicit_fan_out,
    remove_dead_nodes,
    remove_train_only,
)
from cnnspec.plan import Choices, Training, Weights, lower
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool

# Training needs the other two: gradients flow through readers that the output depends on, one for each value.
OPTIONAL = [name for name in TRAINING if name not in ("explicit-fan-out", "remove-dead-nodes")]

SPEC = """
cnnspec: 1
name: t
input: [2, 12, 12]
layers:
  - {id: a, type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - {type: max_pool2d, kernel_size: 2}
  - {id: dead, type: conv2d, filters: 2, kernel_size: 1}
  - {id: b, type: conv2d, filters: 6, kernel_size: 3, padding: same, from: max_pool2d_1}
  - {id: c, type: conv2d, filters: 6, kernel_size: 1, from: max_pool2d_1}
  - {type: add, from: [b, c]}
  - flatten
  - {type: dropout, rate: 0.5}
  - {type: dense, units: 3}
train: {epochs: 1, batch_size: 8, optimizer: {type: sgd, learning_rate: 0.1}}
"""


@pytest.fixture(name="graph")
def _graph() -> Graph:
    return build(loads(SPEC))


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_dead_nodes_are_removed(graph: Graph) -> None:
    assert "dead" not in names(remove_dead_nodes(graph))
    assert len(remove_dead_nodes(graph).nodes) == len(graph.nodes) - 1


def test_dropout_is_removed_for_inference(graph: Graph) -> None:
    left = remove_train_only(graph)
    assert "dropout_1" not in names(left)
    assert left.output.inputs == ("flatten_1",)


def test_relu_moves_behind_max_pooling(graph: Graph) -> None:
    moved = {node.name: node for node in activation_behind_pooling(graph).nodes}
    assert moved["relu_1"].layer.type_name == "max_pool2d"
    assert moved["max_pool2d_1"].layer.type_name == "relu"
    assert moved["max_pool2d_1"].shape == (4, 5, 5)


def test_fan_out_is_made_explicit(graph: Graph) -> None:
    forked = explicit_fan_out(remove_dead_nodes(graph))
    for node in forked.nodes:
        readers = forked.consumers(node.name)
        assert len(readers) <= 1 or node.name.endswith(":fork")


NORMALISED = """
cnnspec: 1
name: normalised
input: [3, 9, 9]
layers:
  - {id: a, type: conv2d, filters: 6, kernel_size: 3, padding: same}
  - {id: a_norm, type: batch_norm, epsilon: 1e-3}
  - relu
  - {type: depthwise_conv2d, kernel_size: 3, multiplier: 2, bias: none}
  - batch_norm
  - {type: separable_conv2d, filters: 5, kernel_size: 3}
  - {id: c_norm, type: batch_norm}
  - {id: untied, type: conv2d, filters: 5, kernel_size: 1, bias: untied}
  - {id: u_norm, type: batch_norm}
  - {id: twice, type: conv2d, filters: 5, kernel_size: 1, bias: none}
  - {id: t_norm, type: batch_norm}
  - {type: add, from: [twice, t_norm]}
  - {id: shared, type: conv2d, filters: 5, kernel_size: 1, bias: none, share: twice}
  - {id: s_norm, type: batch_norm}
  - global_avg_pool2d
  - {type: dense, units: 4}
  - batch_norm
"""


def test_batch_norm_is_folded_where_its_input_alone_goes_into_it() -> None:
    graph = fold_batch_norm(build(loads(NORMALISED)))
    layers = {node.name: node.layer.type_name for node in graph.nodes}
    folded = {name: kind for name, kind in layers.items() if kind.endswith("+batch_norm")}
    assert folded == {
        "a_norm": "conv2d+batch_norm",
        "batch_norm_1": "depthwise_conv2d+batch_norm",
        "c_norm": "separable_conv2d+batch_norm",
        "s_norm": "conv2d+batch_norm",
        "batch_norm_2": "dense+batch_norm",
    }
    assert {"u_norm", "t_norm", "twice"} <= set(names(graph))


def test_folded_batch_norm_leaves_outputs_equal_and_follows_the_weights() -> None:
    follows_the_weights(build(loads(NORMALISED)), {})


def follows_the_weights(graph: Graph, without: Mapping[str, Pass]) -> None:
    """All passes give what fewer of them give, for whatever the weights become."""
    weights, random = weights_of(graph), np.random.default_rng(0)
    plans = [
        lower(graph, 5, "infer", weights, WorkerPool(1), choices=Choices(passes=passes))
        for passes in (INFERENCE, without)
    ]
    for _ in range(2):
        for array in [*weights.params.values(), *weights.state.values()]:
            array[...] = random.uniform(0.5, 1.5, array.shape)
        weights.version += 1
        images = random.standard_normal(plans[0].images.shape)
        for plan in plans:
            plan.images[...] = images
            plan.compute()
        np.testing.assert_allclose(plans[0].output, plans[1].output, rtol=1e-10)


@pytest.mark.parametrize("name", OPTIONAL)
def test_training_passes_leave_gradients_equal(graph: Graph, name: str) -> None:
    without = {other: transform for other, transform in TRAINING.items() if other != name}
    (loss, gradient), (loss_without, gradient_without) = train_once(graph, TRAINING), train_once(graph, without)
    np.testing.assert_allclose(loss, loss_without, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient_without, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(INFERENCE))
def test_inference_passes_leave_outputs_equal(graph: Graph, name: str) -> None:
    without = {other: transform for other, transform in INFERENCE.items() if other != name}
    np.testing.assert_allclose(infer(graph, INFERENCE), infer(graph, without), rtol=1e-10)


def weights_of(graph: Graph) -> Weights:
    weights = Weights(graph, dtype="float64")
    weights.initialise(0)
    return weights


def train_once(graph: Graph, passes: Mapping[str, Pass]) -> tuple[np.ndarray, np.ndarray]:
    graph = remove_train_only(graph)
    spec = loads(SPEC)
    assert spec.train is not None
    weights = weights_of(graph)
    training = Training(weights, spec.train.optimizer)
    plan = lower(
        graph,
        8,
        "train",
        weights,
        WorkerPool(1),
        loss=spec.train.loss,
        training=training,
        choices=Choices(passes=passes),
    )
    plan.images[...] = np.random.default_rng(0).standard_normal(plan.images.shape)
    plan.compute()
    return plan.losses.copy(), training.gradients[0].copy()


def infer(graph: Graph, passes: Mapping[str, Pass]) -> np.ndarray:
    plan = lower(graph, 5, "infer", weights_of(graph), WorkerPool(1), choices=Choices(passes=passes))
    plan.images[...] = np.random.default_rng(0).standard_normal(plan.images.shape)
    plan.compute()
    return plan.output


def test_passes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    assert main(["summary", str(tmp_path / "s.yaml"), "--passes"]) == 0
    printed = capsys.readouterr().out
    for name in TRAINING:
        assert f"after {name} (train)" in printed
    assert "relu_1: max_pool2d of a -> 4x5x5" in printed
