"""Batch normalisation against ONNX and against the formula over the whole batch."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.layers.norm import BatchNorm
from cnnspec.shapes import Shape
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

SHAPES = [(3, 4, 5), (6,)]


def axes_of(x: Array) -> tuple[int, ...]:
    return (0, 2, 3) if x.ndim == 4 else (1,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_inference_agrees_with_onnx(shape: Shape, epsilon: float) -> None:
    bench = Bench(BatchNorm(epsilon=epsilon), [shape], mode="infer")
    random = np.random.default_rng(3)
    bench.state["running_mean"][...] = random.standard_normal(shape[0])
    bench.state["running_variance"][...] = random.random(shape[0]) + 0.1
    statistics = [bench.params["weight"], bench.params["bias"], *bench.state.values()]
    expected = evaluate("BatchNormalization", bench.inputs[0], *statistics, epsilon=epsilon)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-6)  # ONNX holds epsilon in float32


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [[6], [2, 3, 1]])
def test_training_normalises_the_whole_batch(shape: Shape, sizes: list[int]) -> None:
    bench = Bench(BatchNorm(), [shape], sizes=sizes)
    x, column = bench.inputs[0], (-1, 1, 1) if len(shape) == 3 else (-1, 1)
    mean, variance = x.mean(axes_of(x), keepdims=True), x.var(axes_of(x), keepdims=True)
    weight, bias = (bench.params[name].reshape(column) for name in ("weight", "bias"))
    expected = weight * (x - mean) / np.sqrt(variance + 1e-5) + bias
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics_move_once_a_step_with_bessels_correction(shape: Shape) -> None:
    bench = Bench(BatchNorm(momentum=0.8), [shape], sizes=[2, 2, 2])
    x = bench.inputs[0]
    bench.forward()
    np.testing.assert_allclose(bench.state["running_mean"], 0.2 * x.mean(axes_of(x)), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(bench.state["running_variance"], 0.8 + 0.2 * x.var(axes_of(x), ddof=1), rtol=1e-12)


def test_inference_leaves_the_statistics_alone() -> None:
    bench = Bench(BatchNorm(), [(3, 4, 5)], mode="infer")
    bench.forward()
    assert not bench.state["running_mean"].any()
    assert (bench.state["running_variance"] == 1).all()


def test_variance_survives_a_large_mean() -> None:
    """Two passes: in float32 the difference of mean squares would be all rounding."""
    bench = Bench(BatchNorm(), [(2, 8, 8)], sizes=[16], dtype=np.float32)
    x = bench.shards[0].operands.x
    x += 1000
    y = (bench.forward() - bench.params["bias"].reshape(1, -1, 1, 1)) / bench.params["weight"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-3)


def test_one_image_of_one_feature_is_no_division_by_zero() -> None:
    bench = Bench(BatchNorm(), [(2,)], sizes=[1])
    np.testing.assert_allclose(bench.forward()[:, 0], bench.params["bias"])
