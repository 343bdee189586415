"""Activations against ONNX and the standard library, and at their extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cnnspec import registry
from cnnspec.kernels import special_functions
from tests.layers.draws import new
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

OPERATORS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("relu", {}, "Relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}, "LeakyRelu", {"alpha": 0.3}),
    ("sigmoid", {}, "Sigmoid", {}),
    ("tanh", {}, "Tanh", {}),
    ("gelu", {}, "Gelu", {}),
    ("gelu", {"approximate": "tanh"}, "Gelu", {"approximate": "tanh"}),
    ("softmax", {}, "Softmax", {"axis": 1}),
    ("elu", {}, "Elu", {}),
    ("elu", {"alpha": 0.5}, "Elu", {"alpha": 0.5}),
    ("selu", {}, "Selu", {}),
    ("hard_sigmoid", {}, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("hard_swish", {}, "HardSwish", {}),
    ("softplus", {}, "Softplus", {}),
    ("mish", {}, "Mish", {}),
]
EXTREMES = [-1e4, -800.0, -100.0, -9.0, -1e-20, 0.0, 1e-20, 9.0, 100.0, 800.0, 1e4]


def bench_of(name: str, fields: dict[str, Any], dtype: Any = np.float64) -> Bench:
    return Bench(registry.find("layer", name)(**fields), [(3, 5, 4)], dtype=dtype)


@pytest.mark.parametrize(("name", "fields", "operator", "attributes"), OPERATORS)
def test_agrees_with_onnx(name: str, fields: dict[str, Any], operator: str, attributes: dict[str, Any]) -> None:
    bench = bench_of(name, fields)
    expected = evaluate(operator, 3 * bench.inputs[0], **attributes)
    bench.shards[0].operands.x[...] = 3 * bench.inputs[0]
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-7)  # alpha and erf are float32 there


def test_relu6_is_a_clip() -> None:
    bench = bench_of("relu6", {})
    bench.shards[0].operands.x[...] = x = 6 * bench.inputs[0]
    np.testing.assert_array_equal(bench.forward(), np.clip(x, 0, 6))


def test_silu_is_x_times_its_sigmoid() -> None:
    bench = bench_of("silu", {})
    x = bench.inputs[0]
    np.testing.assert_allclose(bench.forward(), x * evaluate("Sigmoid", x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted({name for name, *_ in OPERATORS} | {"relu6", "silu", "prelu"}))
def test_extremes_stay_finite_and_silent(name: str, dtype: Any) -> None:
    bench = Bench(registry.find("layer", name)(), [(len(EXTREMES),)], sizes=[1], dtype=dtype)
    bench.shards[0].operands.x[...] = np.array(EXTREMES)[:, None]
    assert np.isfinite(bench.forward()).all()
    bench.backward()
    assert np.isfinite(bench.input_grads[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "fields"), [("silu", {}), ("mish", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"})]
)
def test_gated_activations_are_the_identity_far_above_zero_and_nothing_far_below(
    name: str, fields: dict[str, Any], dtype: Any
) -> None:
    """There the slope is 1 and 0, though squares and cubes of x overflow."""
    far = np.array([1e3, 1e6, 1e13, 1e15, 1e20, 1e30])
    x = np.concatenate([far, -far]).astype(dtype)
    bench = Bench(registry.find("layer", name)(**fields), [(len(x),)], sizes=[1], dtype=dtype)
    bench.shards[0].operands.x[...] = x[:, None]
    expected = np.where(x > 0, x, 0)[:, None]
    with np.errstate(all="ignore"):  # as steps run
        np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-6)
        bench.backward()
    dy = bench.shards[0].operands.output_grads[0]
    np.testing.assert_allclose(bench.input_grads[0], np.where(x[:, None] > 0, dy, 0), rtol=1e-6, atol=1e-6)


def test_slope_of_relu_is_zero_at_zero() -> None:
    bench = Bench(registry.find("layer", "relu")(), [(3,)], sizes=[1])
    bench.shards[0].operands.x[...] = np.array([[-1.0], [0.0], [1.0]])
    bench.forward()
    bench.backward()
    np.testing.assert_array_equal(bench.input_grads[0] != 0, [[False], [False], [True]])


POINTS = np.linspace(-9, 9, 4001)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alone", [False, True])
def test_normal_distribution_is_that_of_the_standard_library(alone: bool, dtype: Any) -> None:
    x = np.append(POINTS, [0.0, -0.0]).astype(dtype)
    expected = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()])
    found, density, work = (np.empty_like(x) for _ in range(3))
    special_functions.normal(x, found, work if alone else density, work)
    epsilon = np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=2 * epsilon)
    np.testing.assert_allclose(found[x > -5], expected[x > -5], rtol=40 * epsilon)
    if not alone:
        exact = np.exp(-np.square(x.astype(np.float64)) / 2) / math.sqrt(2 * math.pi)
        np.testing.assert_allclose(density, exact, rtol=40 * epsilon, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_are_those_of_the_standard_library_near_zero_and_far_from_it(dtype: Any) -> None:
    near = np.geomspace(1e-30, 80, 2000)
    x = np.concatenate([-near, near, [0.0]]).astype(dtype)
    (out, rounded, work), rtol = (np.empty_like(x) for _ in range(3)), 8 * np.finfo(dtype).eps
    special_functions.exponential_below(x, out, work)
    np.testing.assert_allclose(out, [math.expm1(min(value, 0)) for value in x.tolist()], rtol=rtol)
    special_functions.softplus(x, out, rounded, work)
    expected = [max(value, 0) + math.log1p(math.exp(-abs(value))) for value in x.tolist()]
    np.testing.assert_allclose(out, expected, rtol=rtol)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 1.5])
def test_leaky_relu_takes_any_slope(slope: float) -> None:
    bench = bench_of("leaky_relu", {"negative_slope": slope})
    x = bench.inputs[0].copy()
    np.testing.assert_array_equal(bench.forward(), np.where(x > 0, x, slope * x))
    bench.backward()
    np.testing.assert_allclose(bench.input_grads[0], np.where(x > 0, 1, slope) * bench.output_grads[0], rtol=1e-15)


def test_softmax_sums_to_one_over_channels() -> None:
    np.testing.assert_allclose(bench_of("softmax", {}).forward().sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("slope", [0.0, 0.1, 2.0])
def test_leaky_relu_of_infinity(slope: float) -> None:
    bench = Bench(new("leaky_relu", negative_slope=slope), [(2,)], sizes=[1])
    bench.shards[0].operands.x[:, 0] = np.inf, -np.inf
    np.testing.assert_array_equal(bench.forward()[:, 0], [np.inf, -np.inf if slope else 0])
