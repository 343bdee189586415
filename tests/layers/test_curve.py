"""The further activations against ONNX, and at their extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec import registry
from cnnspec.layers.curve import Prelu
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

OPERATORS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("elu", {}, "Elu", {}),
    ("elu", {"alpha": 0.5}, "Elu", {"alpha": 0.5}),
    ("selu", {}, "Selu", {}),
    ("hard_sigmoid", {}, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("hard_swish", {}, "HardSwish", {}),
    ("softplus", {}, "Softplus", {}),
    ("mish", {}, "Mish", {}),
]


@pytest.mark.parametrize(("name", "fields", "operator", "attributes"), OPERATORS)
def test_agrees_with_onnx(name: str, fields: dict[str, Any], operator: str, attributes: dict[str, Any]) -> None:
    bench = Bench(registry.find("layer", name)(**fields), [(3, 5, 4)])
    x = 4 * bench.inputs[0]
    expected = evaluate(operator, x, **attributes)
    bench.shards[0].operands.x[...] = x
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-7)


def test_relu6_is_a_clip() -> None:
    bench = Bench(registry.find("layer", "relu6")(), [(3, 5, 4)])
    x = 6 * bench.inputs[0]
    bench.shards[0].operands.x[...] = x
    np.testing.assert_array_equal(bench.forward(), np.clip(x, 0, 6))


def test_prelu_has_one_slope_for_each_channel() -> None:
    bench = Bench(Prelu(), [(3, 5, 4)])
    expected = evaluate("PRelu", bench.inputs[0], bench.params["weight"].reshape(3, 1, 1))
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-14)
    fresh = np.zeros(3)
    Prelu().params((3, 5, 4))["weight"].initializer.fill(fresh, (1, 1), np.random.default_rng(0))
    np.testing.assert_array_equal(fresh, 0.25)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["elu", "selu", "relu6", "hard_sigmoid", "hard_swish", "softplus", "mish", "prelu"])
def test_extremes_stay_finite_and_silent(name: str, dtype: Any) -> None:
    bench = Bench(registry.find("layer", name)(), [(7,)], sizes=[1], dtype=dtype)
    bench.shards[0].operands.x[...] = np.array([-1e4, -100, -3, 0, 3, 100, 1e4])[:, None]
    assert np.isfinite(bench.forward()).all()
    bench.backward()
    assert np.isfinite(bench.input_grads[0]).all()
