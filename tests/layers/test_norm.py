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


@pytest.mark.parametrize("mean", [0, 1, 5, 9, 12, 100, 1000])
@pytest.mark.parametrize("sizes", [[16], [5, 6, 5]])
def test_float32_survives_a_large_mean(mean: float, sizes: list[int]) -> None:
    """What the difference of mean squares loses is summed again about the mean: as exact as the numbers themselves."""
    single, double = (Bench(BatchNorm(), [(3, 8, 8)], sizes=sizes, dtype=dtype) for dtype in (np.float32, np.float64))
    for shard, exact in zip(single.shards, double.shards, strict=True):
        for o in (shard.operands, exact.operands):
            o.x[:, 1] += mean  # the other channels stay
        np.copyto(shard.operands.x, exact.operands.x, casting="same_kind")
        np.copyto(exact.operands.x, shard.operands.x)
    for bench in (single, double):
        bench.forward()
        bench.backward()
    last_digit = 6e-8 * max(mean, 10)  # of x, in deviations
    variances = [bench.state["running_variance"] for bench in (single, double)]
    np.testing.assert_allclose(variances[0], variances[1], rtol=1e-5)
    np.testing.assert_allclose(single.y, double.y, atol=5 * last_digit)
    np.testing.assert_allclose(single.input_grads[0], double.input_grads[0], atol=10 * last_digit)
    for name, gradient in double.grads.items():
        np.testing.assert_allclose(single.grads[name], gradient, rtol=1e-5, atol=400 * last_digit)  # about 30 in size


def test_a_constant_channel_has_no_variance() -> None:
    bench = Bench(BatchNorm(), [(2, 4, 4)], sizes=[2, 3], dtype=np.float32)
    for shard in bench.shards:
        shard.operands.x[:, 0] = 3.7
    np.testing.assert_allclose(bench.forward()[:, 0], bench.params["bias"][0], rtol=1e-5, atol=1e-5)


def test_one_image_of_one_feature_is_no_division_by_zero() -> None:
    bench = Bench(BatchNorm(), [(2,)], sizes=[1])
    np.testing.assert_allclose(bench.forward()[:, 0], bench.params["bias"])
