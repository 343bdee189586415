"""Pooling against ONNX over random windows, and the rules about winners, padding and coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec.layers.pool import AvgPool2d, GlobalAvgPool2d, GlobalMaxPool2d, LpPool2d, MaxPool2d, Pool2d
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
paddings = st.one_of(
    st.sampled_from(["valid", "same", "same_lower", "half"]), st.integers(0, 2), st.tuples(*[st.integers(0, 2)] * 4)
)
pools = settings(max_examples=60, deadline=None)


def laid(layer: type[Pool2d], side: tuple[int, int], fields: dict[str, Any]) -> tuple[Bench, dict[str, Any]]:
    """The bench of a configuration that fits, and the attributes that say the same in ONNX."""
    pool, shape = layer(**fields), (2, *side)
    try:
        windows = pool.windows(shape)
    except ShapeError:
        assume(False)
    top, bottom, left, right = windows.padding
    attributes = {"kernel_shape": windows.kernel, "strides": windows.stride, "pads": (top, left, bottom, right)}
    return Bench(pool, [shape], sizes=[2]), attributes


@given(side=sides, kernel_size=pairs, stride=pairs, padding=paddings, ceil=st.booleans())
@pools
def test_max_pool_agrees_with_onnx(side: Any, kernel_size: Any, stride: Any, padding: Any, ceil: bool) -> None:
    fields = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil}
    bench, attributes = laid(MaxPool2d, side, fields)
    np.testing.assert_array_equal(bench.forward(), evaluate("MaxPool", bench.inputs[0], **attributes))


@given(side=sides, kernel_size=pairs, stride=pairs, padding=paddings, count_include_pad=st.booleans())
@pools
def test_avg_pool_agrees_with_onnx(side: Any, kernel_size: Any, stride: Any, padding: Any, **fields: bool) -> None:
    fields = {"kernel_size": kernel_size, "stride": stride, "padding": padding, **fields}
    bench, attributes = laid(AvgPool2d, side, fields)
    attributes["count_include_pad"] = int(fields["count_include_pad"])
    np.testing.assert_allclose(bench.forward(), evaluate("AveragePool", bench.inputs[0], **attributes), rtol=1e-12)


@given(side=sides, kernel_size=pairs, stride=pairs, p=st.integers(1, 4))
@pools
def test_lp_pool_is_that_of_onnx_over_the_root_of_the_count(side: Any, kernel_size: Any, stride: Any, p: int) -> None:
    bench, attributes = laid(LpPool2d, side, {"kernel_size": kernel_size, "stride": stride, "p": p})
    expected = evaluate("LpPool", bench.inputs[0], p=p, **attributes) / np.prod(kernel_size) ** (1 / p)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (2, 7, 7)])
def test_global_avg_pool_agrees_with_onnx(shape: tuple[int, int, int]) -> None:
    bench = Bench(GlobalAvgPool2d(), [shape])
    expected = evaluate("GlobalAveragePool", bench.inputs[0]).reshape(bench.y.shape)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-12)


@given(side=sides, kernel_size=pairs, stride=pairs, padding=paddings, seed=st.integers(0, 99))
@pools
def test_each_window_has_one_winner_the_first_of_equals(
    side: Any, kernel_size: Any, stride: Any, padding: Any, seed: int
) -> None:
    """Against a search through every window, on maps with few distinct values, all negative so that 0 would win."""
    bench, _ = laid(MaxPool2d, side, {"kernel_size": kernel_size, "stride": stride, "padding": padding})
    o, windows = (
        bench.shards[0].operands,
        MaxPool2d.of(kernel_size=kernel_size, stride=stride, padding=padding).windows((2, *side)),
    )
    o.x[...] = np.random.default_rng(seed).integers(-3, 0, o.x.shape)
    bench.forward()
    bench.backward()
    expected = np.zeros_like(o.x)
    (kh, kw), (sh, sw), (top, _, left, _) = windows.kernel, windows.stride, windows.padding
    for row, channel, column, image in np.ndindex(o.y.shape):
        cells = [(row * sh - top + i, column * sw - left + j) for i in range(kh) for j in range(kw)]
        inside = [(i, j) for i, j in cells if 0 <= i < side[0] and 0 <= j < side[1]]
        i, j = max(inside, key=lambda cell: o.x[cell[0], channel, cell[1], image])
        expected[i, channel, j, image] += o.dy[row, channel, column, image]
    np.testing.assert_allclose(bench.input_grads[0], expected, rtol=1e-12, atol=1e-14)


def test_rows_and_columns_that_no_window_covers_get_no_gradient() -> None:
    for fields in ({"kernel_size": 2}, {"kernel_size": 2, "stride": 3}):
        bench = Bench(MaxPool2d.of(**fields), [(1, 5, 7)])
        bench.forward()
        bench.backward()
        assert not bench.input_grads[0][:, :, 6 if fields == {"kernel_size": 2} else 2].any()
        assert np.isfinite(bench.input_grads[0]).all()


def test_lp_pool_has_gradient_zero_at_zero() -> None:
    for p in (1, 2, 3.5):
        bench = Bench(LpPool2d.of(kernel_size=2, p=p), [(1, 4, 4)])
        bench.shards[0].operands.x[:2] = 0
        assert not bench.forward()[0].any()
        bench.backward()
        assert not bench.input_grads[0][:2].any()
        assert bench.input_grads[0][2:].all()


def test_lp_pool_of_one_is_the_mean_of_magnitudes() -> None:
    bench = Bench(LpPool2d.of(kernel_size=3, p=1), [(2, 6, 6)])
    mean = Bench(AvgPool2d.of(kernel_size=3), [(2, 6, 6)])
    mean.shards[0].operands.x[...] = np.abs(bench.inputs[0])
    np.testing.assert_allclose(bench.forward(), mean.forward(), rtol=1e-12)


@pytest.mark.parametrize("layer", [MaxPool2d, AvgPool2d, LpPool2d])
def test_padding_as_large_as_the_kernel_is_an_error(layer: type[Pool2d]) -> None:
    with pytest.raises(ShapeError, match="expected padding smaller than the 2x2 kernel, got 2") as caught:
        layer.of(kernel_size=2, padding=2).infer_shape((1, 8, 8))
    assert caught.value.field == "padding"


def test_a_vector_cannot_be_pooled() -> None:
    with pytest.raises(ShapeError, match="expected a map of channels x height x width, got a vector of 9"):
        MaxPool2d.of(kernel_size=2).infer_shape((9,))
    with pytest.raises(ShapeError, match="expected a map"):
        GlobalAvgPool2d().infer_shape((9,))


def test_global_max_pool_sends_its_gradient_to_the_first_of_equals() -> None:
    bench = Bench(GlobalMaxPool2d(), [(2, 3, 4)])
    x = bench.shards[0].operands.x
    x[...] = np.random.default_rng(0).integers(-2, 0, x.shape)
    np.testing.assert_array_equal(bench.forward(), x.max(axis=(0, 2)))
    bench.backward()
    expected = np.zeros_like(x)
    for channel, image in np.ndindex(2, 3):
        row, column = np.unravel_index(x[:, channel, :, image].argmax(), (3, 4))
        expected[row, channel, column, image] = bench.output_grads[0][channel, image]
    np.testing.assert_array_equal(bench.input_grads[0], expected)


def test_ceil_mode_adds_a_window_that_starts_in_the_map() -> None:
    """PyTorch's rule, with the sizes of GoogLeNet: 112 -> 56 by 3 at stride 2, and 5 -> 3; not by padding alone."""
    pool = MaxPool2d.of(kernel_size=3, stride=2, ceil_mode=True)
    assert pool.infer_shape((1, 112, 112)) == (1, 56, 56)
    assert MaxPool2d.of(kernel_size=3, stride=2).infer_shape((1, 112, 112)) == (1, 55, 55)
    assert MaxPool2d.of(kernel_size=1, stride=2, ceil_mode=True).infer_shape((1, 5, 4)) == (1, 3, 2)
    assert MaxPool2d.of(kernel_size=2, stride=2, padding=1, ceil_mode=True).infer_shape((1, 3, 2)) == (1, 2, 2)


def test_what_ceil_mode_adds_is_not_counted() -> None:
    bench = Bench(AvgPool2d.of(kernel_size=2, stride=2, ceil_mode=True, count_include_pad=True), [(1, 3, 3)], sizes=[1])
    x = bench.inputs[0][:, 0, :, 0]
    expected = [[x[:2, :2].mean(), x[:2, 2].mean()], [x[2, :2].mean(), x[2, 2]]]
    np.testing.assert_allclose(bench.forward()[:, 0, :, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("p", [2, 3.5, 8])
def test_lp_pool_scales_with_its_input(scale: float, p: float) -> None:
    """The norm of c x is c times that of x, and the gradient is the same, though powers leave the range of float32."""
    reference, bench = (Bench(LpPool2d.of(kernel_size=2, p=p), [(2, 6, 6)], dtype=t) for t in (np.float64, np.float32))
    bench.shards[0].operands.x[...] = scale * reference.inputs[0]
    for each in (reference, bench):
        each.forward()
        each.backward()
    np.testing.assert_allclose(bench.y / np.float32(scale), reference.y, rtol=1e-5)
    np.testing.assert_allclose(bench.input_grads[0], reference.input_grads[0], rtol=2e-4, atol=1e-6)
