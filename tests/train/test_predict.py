"""Inference: any number of images, plans kept by size, and not too many of them."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.spec import loads
from cnnspec.train import network as inference
from tests.compare.test_profile import SPEC


@pytest.fixture(name="network")
def _network() -> Model:
    return compile(loads(SPEC), threads=1)


@pytest.mark.parametrize("count", [0, 1, 5, 256, 257])
def test_any_number_of_images(network: Model, count: int) -> None:
    images = np.random.default_rng(0).random((count, *network.graph.input_shape), np.float32)
    together = network.outputs(images)
    assert together.shape == (count, 10)
    alone = [network.outputs(images[i : i + 1]) for i in range(min(count, 3))]
    for i, one in enumerate(alone):
        np.testing.assert_allclose(one[0], together[i], rtol=1e-5, atol=1e-6)


def test_plans_are_kept_by_size_and_type(network: Model) -> None:
    assert network.plan(3, "infer") is network.plan(3, "infer")
    assert network.plan(3, "infer") is not network.plan(4, "infer")
    assert network.plan(3, "infer") is not network.plan(3, "infer", "float32")


def test_the_plan_unused_for_longest_goes(network: Model) -> None:
    trained = network.plan(2, "train")
    first, second = network.plan(1, "infer"), network.plan(2, "infer")
    for size in range(3, inference.INFERENCE_PLANS + 1):
        network.plan(size, "infer")
    assert network.plan(1, "infer") is first
    network.plan(inference.INFERENCE_PLANS + 1, "infer")
    assert network.plan(1, "infer") is first
    assert network.plan(2, "train") is trained
    assert network.plan(2, "infer") is not second


def test_inputs_without_rows_and_columns() -> None:
    text = "cnnspec: 1\nname: vector\ninput: [7]\nlayers: [{type: dense, units: 3}]\n"
    model = compile(loads(f"{text}train: {{epochs: 1, batch_size: 4, optimizer: {{type: sgd, learning_rate: 0.1}}}}"))
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    weight, bias = (model.params[f"dense_1.{name}"] for name in ("weight", "bias"))
    np.testing.assert_allclose(model.outputs(x), x @ weight.T + bias, rtol=1e-5, atol=1e-6)
    assert model.evaluate(x, np.zeros(5, int)).loss is not None
    with pytest.raises(ValueError, match=r"expected images of shape \(n, 7\), got \(5, 6\)"):
        model.outputs(x[:, :6])
