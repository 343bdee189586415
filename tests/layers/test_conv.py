"""Convolution against ONNX's reference evaluator, central differences, and naive loops."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cnnspec.kernels.step import Array, step_state
from cnnspec.layers.base import Operands, to_public
from cnnspec.layers.conv import Conv2d
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench, steps_of


def reference(layer: Conv2d, shape: Shape, x: Array, weight: Array, bias: Array | None) -> Array:
    """ONNX's Conv; `x` is (n, c, h, w)."""
    (top, bottom, left, right) = layer.windows(shape).padding
    node = helper.make_node(
        "Conv",
        ["x", "weight"],
        ["y"],
        strides=layer.stride,
        pads=[top, left, bottom, right],
        dilations=layer.dilation,
        group=layer.groups,
    )
    infos = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in ("x", "weight", "y")]
    graph = helper.make_graph([node], "conv", infos[:2], infos[2:])
    (y,) = ReferenceEvaluator(helper.make_model(graph)).run(None, {"x": x, "weight": weight})
    if bias is None:
        return np.asarray(y)
    return np.asarray(y + (bias if bias.ndim == 3 else bias[:, None, None]))


def naive(layer: Conv2d, shape: Shape, x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """y, dx and dweight by a loop over output positions; all arrays as the caller has them."""
    laid = layer.windows(shape)
    top, bottom, left, right = laid.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    dpadded, dweight, y = np.zeros_like(padded), np.zeros_like(weight), np.zeros_like(dy)
    filters, c = weight.shape[0] // layer.groups, weight.shape[1]
    for i, j in np.ndindex(*laid.output):
        rows = slice(i * laid.stride[0], i * laid.stride[0] + laid.extent[0], laid.dilation[0])
        columns = slice(j * laid.stride[1], j * laid.stride[1] + laid.extent[1], laid.dilation[1])
        for g in range(layer.groups):
            f, ch = slice(g * filters, (g + 1) * filters), slice(g * c, (g + 1) * c)
            window, gradient = padded[:, ch, rows, columns], dy[:, f, i, j]
            y[:, f, i, j] = np.einsum("ncuv,fcuv->nf", window, weight[f])
            dpadded[:, ch, rows, columns] += np.einsum("nf,fcuv->ncuv", gradient, weight[f])
            dweight[f] += np.einsum("nf,ncuv->fcuv", gradient, window)
    return y, dpadded[:, :, top : top + laid.height, left : left + laid.width], dweight


def run(bench: Bench) -> Operands:
    """One step of a bench of one shard."""
    bench.forward()
    bench.backward()
    return bench.shards[0].operands


def check(layer: Conv2d, shape: Shape, n: int) -> None:
    """All results of a step against ONNX (y) and the loops (gradients)."""
    bench = Bench(layer, [shape], sizes=(n,))
    o = run(bench)
    assert o.dx is not None
    x, weight, dy = to_public(o.x), o.params["weight"], to_public(o.dy)
    _, dx, dweight = naive(layer, shape, x, weight, dy)
    np.testing.assert_allclose(to_public(o.y), reference(layer, shape, x, weight, o.params.get("bias")), atol=1e-10)
    np.testing.assert_allclose(to_public(o.dx), dx, atol=1e-10)
    np.testing.assert_allclose(o.grads["weight"], dweight, atol=1e-10)
    if "bias" in o.grads:
        np.testing.assert_allclose(o.grads["bias"], dy.sum((0, 2, 3) if layer.bias == "channel" else 0), atol=1e-10)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.one_of(st.sampled_from(["same", "valid"]), st.integers(0, 4), st.tuples(*[st.integers(0, 3)] * 4))


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pairs,
    pairs,
    paddings,
    st.sampled_from(["channel", "untied", "none"]),
    st.integers(1, 4),
)
def test_any_configuration(
    shape: tuple[int, int, int],
    groups: int,
    filters: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Any,
    bias: str,
    n: int,
) -> None:
    layer = Conv2d.of(
        filters=filters * groups,
        kernel_size=kernel_size,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=groups,
        bias=bias,
    )
    whole = (shape[0] * groups, *shape[1:])
    try:
        layer.infer_shape(whole)
    except ShapeError:
        assume(False)
    check(layer, whole, n)


CASES: dict[str, tuple[dict[str, Any], Shape, int]] = {
    "lenet": ({"filters": 20, "kernel_size": 5}, (1, 28, 28), 5),
    "same": ({"filters": 8, "kernel_size": 3, "padding": "same", "bias": "untied"}, (4, 9, 7), 3),
    "halving": ({"filters": 8, "kernel_size": 3, "padding": "same", "stride": 2}, (4, 8, 8), 3),
    "pointwise": ({"filters": 8, "kernel_size": 1}, (6, 5, 5), 3),
    "depthwise": ({"filters": 6, "kernel_size": 3, "padding": 1, "groups": 6}, (6, 5, 5), 3),
    "dilated": ({"filters": 4, "kernel_size": 3, "padding": 2, "dilation": 2}, (4, 6, 6), 3),
    "larger than the map": ({"filters": 4, "kernel_size": 5, "padding": 4}, (2, 2, 2), 2),
    "gaps between windows": ({"filters": 4, "kernel_size": 2, "stride": 3}, (2, 9, 9), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_against_loops_and_onnx(case: str) -> None:
    fields, shape, n = CASES[case]
    check(Conv2d.of(**fields), shape, n)


@pytest.mark.parametrize("case", CASES)
def test_central_differences(case: str) -> None:
    fields, shape, _ = CASES[case]
    bench = Bench(Conv2d.of(**fields), [shape], sizes=(2,))
    o = run(bench)
    assert o.dx is not None
    random = np.random.default_rng(1)
    gradients = [o.dx.copy(), o.grads["weight"].copy(), o.grads["bias"].copy()]
    for array, gradient in zip((o.x, o.params["weight"], o.params["bias"]), gradients, strict=True):
        direction, before = random.standard_normal(array.shape), array.copy()
        losses = []
        for step in (1e-4, -1e-4):
            array[...] = before + step * direction
            run(bench)
            losses.append(float(np.vdot(o.y, o.dy)))
        array[...] = before
        expected = float(np.vdot(gradient, direction))
        assert (losses[0] - losses[1]) / 2e-4 == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_float32(case: str) -> None:
    fields, shape, n = CASES[case]
    bench = Bench(Conv2d.of(**fields), [shape], sizes=(n,), dtype=np.float32)
    o = run(bench)
    assert o.dx is not None
    x, weight, dy = to_public(o.x), o.params["weight"], to_public(o.dy)
    y, dx, dweight = naive(Conv2d.of(**fields), shape, *(a.astype(np.float64) for a in (x, weight, dy)))
    bias = o.params["bias"]
    y = y + (bias if bias.ndim == 3 else bias[:, None, None])
    for got, expected in ((to_public(o.y), y), (to_public(o.dx), dx), (o.grads["weight"], dweight)):
        assert got.dtype == np.float32
        assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_a_step_allocates_nothing(case: str, dtype: Any) -> None:
    fields, shape, _ = CASES[case]
    bench = Bench(Conv2d.of(**fields), [shape], sizes=(32,), dtype=dtype)
    run(bench)
    steps = steps_of(bench)
    tracemalloc.start()
    try:
        with step_state():
            for step in steps:
                step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 65536


def test_inference_needs_less_and_gives_the_same() -> None:
    layer, shape = Conv2d.of(filters=4, kernel_size=3, padding=1), (3, 6, 6)
    trained, inferred = Bench(layer, [shape]), Bench(layer, [shape], mode="infer")
    np.testing.assert_array_equal(trained.forward(), inferred.forward())
    assert set(inferred.shards[0].operands.buffers) < set(trained.shards[0].operands.buffers)


def test_first_layer_skips_its_input_gradient() -> None:
    bench = Bench(Conv2d.of(filters=4, kernel_size=3, padding=1), [(3, 6, 6)])
    first = replace(bench.shards[0].operands, input_grads=(None,))
    assert list(bench.layer.backward(first).input) == []
    assert len(bench.layer.prepare(first)) < len(bench.prepare)


def test_shards_of_different_sizes_share_what_is_prepared() -> None:
    layer, shape = Conv2d.of(filters=50, kernel_size=5), (20, 12, 12)
    whole, cut = Bench(layer, [shape], sizes=(65,)), Bench(layer, [shape], sizes=(32, 33))  # 2 and 3 tiles for dx
    np.testing.assert_allclose(cut.forward(), whole.forward(), atol=1e-11)
    for bench in (whole, cut):
        bench.backward()
    np.testing.assert_allclose(cut.input_grads[0], whole.input_grads[0], atol=1e-11)
    np.testing.assert_allclose(cut.grads["weight"], whole.grads["weight"], atol=1e-9)


def test_declarations() -> None:
    layer = Conv2d.of(filters=6, kernel_size=(3, 5), groups=2, bias="untied")
    assert layer.infer_shape((4, 8, 9)) == (6, 6, 5)
    params = layer.params((4, 8, 9))
    assert (params["weight"].shape, params["bias"].shape) == ((6, 2, 3, 5), (6, 6, 5))
    assert params["weight"].fans == (30, 90)  # PyTorch: weight.shape[1] * 15, weight.shape[0] * 15
    assert params["weight"].decays
    assert not params["bias"].decays
    assert layer.cost((4, 8, 9)) == 6 * 6 * 5 * 2 * 15
    assert list(Conv2d.of(filters=1, kernel_size=1, bias="none").params((1, 1, 1))) == ["weight"]


@pytest.mark.parametrize(
    ("fields", "shape", "message", "field", "cure"),
    [
        (
            {"filters": 50, "kernel_size": 17},
            (20, 12, 12),
            "kernel 17x17 does not fit the 12x12 input (padding 0)",
            "kernel_size",
            "use a kernel_size up to 12, or padding: same",
        ),
        (
            {"filters": 6, "kernel_size": 1, "groups": 3},
            (8, 4, 4),
            "expected input channels divisible by groups 3, got 8",
            "groups",
            "use groups: 2, or another number of input channels",
        ),
        (
            {"filters": 6, "kernel_size": 1, "groups": 4},
            (8, 4, 4),
            "expected filters divisible by groups 4, got 6",
            "groups",
            "use groups: 2, or another number of filters",
        ),
        (
            {"filters": 6, "kernel_size": 1},
            (8,),
            "expected a map of channels x height x width, got a vector of 8 features",
            None,
            "put conv2d before flatten",
        ),
    ],
)
def test_errors(fields: dict[str, Any], shape: Shape, message: str, field: str | None, cure: str) -> None:
    with pytest.raises(ShapeError) as caught:
        Conv2d.of(**fields).infer_shape(shape)
    assert (str(caught.value), caught.value.field, caught.value.help) == (message, field, cure)
