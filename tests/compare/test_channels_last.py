"""The library against JAX and Keras: the same weights give the same outputs, losses, gradients and next weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from cnnspec.compare import channels_last, jax, keras
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph, build
from cnnspec.graph.passes import remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.plan import Training, shards_of
from cnnspec.spec import load, loads
from tests.compare.test_pytorch import BATCH, RARE, SPECS, Pair

NETWORKS = {
    "lenet": load(SPECS / "lenet.yaml"),
    "resnet20": load(SPECS / "resnet20.yaml"),
    "autoencoder": load(SPECS / "autoencoder.yaml"),
    "rare": loads(RARE),
}


@pytest.fixture(name="framework", params=["jax", "keras"])
def _framework(request: pytest.FixtureRequest) -> Iterator[str]:
    pytest.importorskip("tensorflow" if request.param == "keras" else request.param)
    if request.param == "jax":
        import jax as package

        with package.enable_x64(True):
            yield request.param
    else:
        yield request.param


@pytest.fixture(name="pair", params=list(NETWORKS))
def _pair(request: pytest.FixtureRequest) -> Pair:
    pytest.importorskip("torch")  # which the pair is made with
    spec = NETWORKS[request.param]
    return Pair(spec, remove_train_only(build(spec)))


def network(framework: str, pair: Pair) -> Any:
    values = dict(pair.weights.arrays())
    if framework == "jax":
        return jax.JaxNetwork(jax.Jax(), pair.graph, values, pair.images, pair.labels)
    return keras.KerasNetwork(keras.Keras(), pair.graph, values, pair.images, pair.labels)


def public(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays by parameter with the axes in this library's order."""
    nodes = {node.name: node for node in graph.nodes}
    found = {}
    for key, array in arrays.items():
        node, _, name = key.rpartition(".")
        values = np.asarray(array)
        found[key] = values.transpose(np.argsort(channels_last.axes_of(nodes[node], name, values.ndim)))
    return found


def test_outputs_agree(framework: str, pair: Pair) -> None:
    plan = pair.plan("infer")
    plan.compute()
    found = np.asarray(network(framework, pair).inference()())
    expected = plan.output
    if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_gradients_agree(framework: str, pair: Pair) -> None:
    train = pair.spec.train
    assert train is not None
    training = Training(pair.weights, train.optimizer, len(shards_of(BATCH)))
    plan = pair.plan("train", loss=train.loss, training=training)
    plan.compute()
    other = network(framework, pair)
    names = list(channels_last.decays(pair.graph, train.optimizer))
    if framework == "jax":
        (value, _), found = other.gradients(train.loss)(
            other.params, other.state, other.images, other.labels, other.framework.key
        )
    else:
        value, gradients = other.gradients(train.loss, names, other.images, other.labels)
        found = dict(zip(names, gradients, strict=True))
    assert plan.losses.mean() == pytest.approx(float(value), rel=1e-6)
    theirs = public(pair.graph, {name: found[name] for name in names})
    for slot in pair.weights.slots:
        own = training.gradients[0][slot.start : slot.stop].reshape(slot.shape)
        expected = theirs[slot.key]
        tolerance = 1e-9 + 1e-6 * abs(expected).max()
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=tolerance, err_msg=slot.key)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
def test_steps_agree(framework: str, optimizer: str) -> None:
    pytest.importorskip("torch")
    settings = "momentum: 0.9, " if optimizer == "sgd" else ""
    chosen = f"{{type: {optimizer}, {settings}learning_rate: 0.01, weight_decay: 0.1}}"
    spec = load(SPECS / "lenet5.yaml", [f"train={{epochs: 1, batch_size: {BATCH}, optimizer: {chosen}}}"])
    pair = Pair(spec, build(spec))
    assert spec.train is not None
    training = Training(pair.weights, spec.train.optimizer, len(shards_of(BATCH)))
    other = network(framework, pair)
    plan = pair.plan("train", loss=spec.train.loss, training=training)
    step = other.training(spec.train.loss, spec.train.optimizer)
    tolerance = 1e-3 if framework == "keras" and "adam" in optimizer else 1e-6  # Keras adds epsilon to another root
    for _ in range(3):
        plan.step(spec.train.optimizer.learning_rate)
        assert plan.losses.mean() == pytest.approx(float(step()), rel=tolerance)


def test_a_layer_without_counterpart_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_last, "FUNCTIONS", {"relu": channels_last.FUNCTIONS["relu"]})
    with pytest.raises(RunError, match=r"no counterpart of .*adaptive_avg_pool2d, "):
        channels_last.native(build(loads(RARE)), {})
