"""Every layer that has an ONNX operator against the reference evaluator, over random configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.transposed import ConvTranspose2d
from cnnspec.shapes import Shape, ShapeError
from tests.layers.draws import lengths, maps, new, numbers, paddings, pairs, shapes
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = tuple[Layer, Sequence[Shape], str, Callable[[Bench], Sequence[Array]], Mapping[str, Any]]


def inputs_alone(bench: Bench) -> Sequence[Array]:
    return bench.inputs


def simple(name: str, operator: str, **fields: str) -> Callable[[Draw], Case]:
    """A function of one number at a time; `fields` name the attributes of the layer's drawn fields."""

    def case(draw: Draw) -> Case:
        drawn = {field: draw(numbers) for field in fields}
        attributes = {fields[field]: value for field, value in drawn.items()}
        return new(name, **drawn), [draw(shapes)], operator, inputs_alone, attributes

    return case


def hard_sigmoid(draw: Draw) -> Case:
    return new("hard_sigmoid"), [draw(shapes)], "HardSigmoid", inputs_alone, {"alpha": 1 / 6, "beta": 0.5}


def relu6(draw: Draw) -> Case:
    return new("relu6"), [draw(shapes)], "Clip", lambda b: [b.inputs[0] * 4, np.float64(0), np.float64(6)], {}


def gelu(draw: Draw) -> Case:
    approximate = draw(st.sampled_from(["none", "tanh"]))
    return new("gelu", approximate=approximate), [draw(shapes)], "Gelu", inputs_alone, {"approximate": approximate}


def softmax(draw: Draw) -> Case:
    return new("softmax"), [draw(shapes)], "Softmax", inputs_alone, {"axis": 1}


def prelu(draw: Draw) -> Case:
    shape = draw(shapes)
    form = (shape[0],) + (1,) * (len(shape) - 1)
    return new("prelu"), [shape], "PRelu", lambda b: [b.inputs[0], b.params["weight"].reshape(form)], {}


def dense(draw: Draw) -> Case:
    layer = new("dense", units=draw(lengths))
    return layer, [(draw(lengths),)], "Gemm", lambda b: [b.inputs[0], Raw(b, "weight"), Raw(b, "bias")], {"transB": 1}


def Raw(bench: Bench, name: str) -> Array:  # noqa: N802
    """A parameter, marked so that the oracle does not take it for a plan's array."""
    return bench.params[name].view(Parameter)


class Parameter(np.ndarray[Any, Any]):
    """An array that ONNX has in the same layout."""


def conv2d(draw: Draw) -> Case:
    groups = draw(st.integers(1, 2))
    shape = (groups * draw(st.integers(1, 3)), draw(lengths), draw(lengths))
    layer = new(
        "conv2d",
        filters=groups * draw(st.integers(1, 3)),
        kernel_size=draw(pairs),
        stride=draw(pairs),
        dilation=draw(pairs),
        padding=draw(st.sampled_from(["valid", "same", "same_lower", "half", 1, (0, 2, 1, 0)])),
        groups=groups,
    )
    return (*convolution(layer, shape, "Conv"),)


def depthwise(draw: Draw) -> Case:
    shape = draw(maps)
    layer = new("depthwise_conv2d", kernel_size=draw(pairs), stride=draw(pairs), multiplier=draw(st.integers(1, 2)))
    laid, shape_, operator, inputs, attributes = convolution(layer, shape, "Conv")
    return laid, shape_, operator, inputs, {**attributes, "group": shape[0]}


def convolution(layer: Any, shape: Shape, operator: str) -> Case:
    try:
        windows = layer.windows(shape)
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    top, bottom, left, right = windows.padding
    attributes = {
        "kernel_shape": windows.kernel,
        "strides": windows.stride,
        "dilations": windows.dilation,
        "pads": (top, left, bottom, right),
        "group": getattr(layer, "groups", 1),
    }
    return layer, [shape], operator, lambda b: [b.inputs[0], Raw(b, "weight"), Raw(b, "bias")], attributes


def conv_transpose2d(draw: Draw) -> Case:
    # the reference evaluator knows one group and no dilation here; groups are tested against the loops
    stride = draw(st.integers(1, 3))
    layer = ConvTranspose2d(
        filters=draw(lengths),
        kernel_size=draw(pairs),
        stride=(stride, stride),
        padding=draw(st.sampled_from(["valid", 1, "same"])),
        output_padding=(draw(st.integers(0, stride - 1)), draw(st.integers(0, stride - 1))),
    )
    found = convolution(layer, draw(maps), "ConvTranspose")
    attributes = {**found[4], "output_padding": layer.output_padding}
    return (*found[:4], attributes)


def batch_norm(draw: Draw) -> Case:
    epsilon = draw(numbers)

    def inputs(b: Bench) -> Sequence[Array]:
        random = np.random.default_rng(0)
        for name in ("running_mean", "running_variance"):
            b.state[name][...] = random.uniform(0.5, 2, b.state[name].shape)
        parameters = (b.params["weight"], b.params["bias"], b.state["running_mean"], b.state["running_variance"])
        return [b.inputs[0], *parameters]

    return new("batch_norm", epsilon=epsilon), [draw(maps)], "BatchNormalization", inputs, {"epsilon": epsilon}


def instance_norm(draw: Draw) -> Case:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(2, 6), lengths))
    epsilon = draw(numbers)
    parameters = lambda b: [b.inputs[0], b.params["weight"], b.params["bias"]]  # noqa: E731
    return new("instance_norm", epsilon=epsilon), [shape], "InstanceNormalization", parameters, {"epsilon": epsilon}


def group_norm(draw: Draw) -> Case:
    groups, epsilon = draw(st.integers(1, 3)), draw(numbers)
    shape = (groups * draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(lengths))
    parameters = lambda b: [b.inputs[0], b.params["weight"], b.params["bias"]]  # noqa: E731
    attributes = {"epsilon": epsilon, "num_groups": groups, "opset": 21}
    return new("group_norm", groups=groups, epsilon=epsilon), [shape], "GroupNormalization", parameters, attributes


def permute(draw: Draw) -> Case:
    order = draw(st.permutations([0, 1, 2]))
    perm = (0, *(axis + 1 for axis in order))
    return new("permute", order=order), [draw(maps)], "Transpose", inputs_alone, {"perm": perm}


def slices(draw: Draw) -> Case:
    shape = draw(maps)
    ranges = []
    for length in shape:
        start = draw(st.integers(0, length - 1))
        ranges.append((start, draw(st.integers(start + 1, length)), draw(st.integers(1, 3))))
    fields = {
        name: {"start": start, "stop": stop, "step": step}
        for name, (start, stop, step) in zip(("channels", "rows", "columns"), ranges, strict=True)
    }
    starts, stops, steps = (np.array(values, np.int64) for values in zip(*ranges, strict=True))
    axes = np.array([1, 2, 3], np.int64)
    return new("slice", **fields), [shape], "Slice", lambda b: [b.inputs[0], starts, stops, axes, steps], {}


def zero_pad2d(draw: Draw) -> Case:
    top, bottom, left, right, before, behind = (draw(st.integers(0, 3)) for _ in range(6))
    layer = new("zero_pad2d", padding=[top, bottom, left, right], channels=[before, behind])
    pads = np.array([0, before, top, left, 0, behind, bottom, right], np.int64)
    return layer, [draw(maps)], "Pad", lambda b: [b.inputs[0], pads], {}


def upsample2d(draw: Draw) -> Case:
    mode, scale = draw(st.sampled_from(["nearest", "bilinear"])), draw(pairs)
    factors = np.array([1, 1, *scale], np.float32)
    attributes = {"mode": {"nearest": "nearest", "bilinear": "linear"}[mode]}
    empty = np.array([], np.float32)
    return (
        new("upsample2d", mode=mode, scale=scale),
        [draw(maps)],
        "Resize",
        lambda b: [b.inputs[0], empty, factors],
        attributes,
    )


def pixel_shuffle(draw: Draw) -> Case:
    factor = draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 3)) * factor**2, draw(lengths), draw(lengths))
    attributes = {"blocksize": factor, "mode": "CRD"}
    return new("pixel_shuffle", factor=factor), [shape], "DepthToSpace", inputs_alone, attributes


def crop2d(draw: Draw) -> Case:
    top, bottom, left, right = (draw(st.integers(0, 2)) for _ in range(4))
    shape = (draw(st.integers(1, 4)), top + bottom + draw(lengths), left + right + draw(lengths))
    starts, stops = np.array([top, left], np.int64), np.array([shape[1] - bottom, shape[2] - right], np.int64)
    axes = np.array([2, 3], np.int64)
    layer = new("crop2d", cropping=[top, bottom, left, right])
    return layer, [shape], "Slice", lambda b: [b.inputs[0], starts, stops, axes], {}


def reshape(draw: Draw) -> Case:
    factors = draw(st.permutations([draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))]))
    shape = draw(st.sampled_from([tuple(factors), (factors[0] * factors[1] * factors[2],)]))
    target = draw(st.sampled_from([tuple(sorted(factors)), (factors[0] * factors[1], factors[2], 1)]))
    form = np.array([-1, *target], np.int64)
    return new("reshape", shape=target), [shape], "Reshape", lambda b: [b.inputs[0], form], {}


def adaptive_avg_pool2d(draw: Draw) -> Case:
    """Where the bins are of one size; of others the loops below are the oracle."""
    (rows, columns), kernel = draw(pairs), draw(pairs)
    shape = (draw(st.integers(1, 4)), rows * kernel[0], columns * kernel[1])
    attributes = {"kernel_shape": kernel, "strides": kernel}
    return new("adaptive_avg_pool2d", output_size=(rows, columns)), [shape], "AveragePool", inputs_alone, attributes


def layer_norm(draw: Draw) -> Case:
    """Of a map it is group normalisation with one group, of a vector ONNX has the operator."""
    epsilon, vector = draw(numbers), draw(st.booleans())
    shape = draw(st.tuples(st.integers(2, 9)) if vector else st.tuples(st.integers(1, 4), st.integers(2, 6), lengths))
    operator = "LayerNormalization" if vector else "GroupNormalization"
    attributes = {"epsilon": epsilon, "opset": 21} | ({} if vector else {"num_groups": 1})
    return new("layer_norm", epsilon=epsilon, over="map"), [shape], operator, weight_and_bias, attributes


def weight_and_bias(b: Bench) -> Sequence[Array]:
    return [b.inputs[0], b.params["weight"], b.params["bias"]]


def local_response_norm(draw: Draw) -> Case:
    fields = {"size": draw(st.sampled_from([1, 3, 5, 7])), "alpha": draw(numbers), "beta": draw(numbers)}
    k = draw(st.floats(1, 2, width=32))
    attributes = {**fields, "bias": k, "runtime": True}
    return new("local_response_norm", **fields, k=k), [draw(maps)], "LRN", inputs_alone, attributes


def silu(draw: Draw) -> Case:
    return new("silu"), [draw(shapes)], "Swish", inputs_alone, {"opset": 24}


def dropout(draw: Draw) -> Case:
    rate = draw(st.floats(0, 0.875, width=32))
    return new("dropout", rate=rate), [draw(shapes)], "Dropout", lambda b: [b.inputs[0], np.float32(rate)], {}


def multiply(draw: Draw) -> Case:
    """Two maps, or a map and a gate for each channel, for each pixel or for all, in either order."""
    c, h, w = draw(maps)
    gate = draw(st.sampled_from([(c, h, w), (c, 1, 1), (1, h, w), (1, 1, 1), (c, h, 1)]))
    return new("multiply"), draw(st.permutations([(c, h, w), gate])), "Mul", inputs_alone, {}


def broadcast(name: str, operator: str, **fields: Any) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        c, h, w = draw(maps)
        other = draw(st.sampled_from([(c, h, w), (c, 1, 1), (1, h, w), (1, 1, 1)]))
        return new(name, **fields), draw(st.permutations([(c, h, w), other])), operator, inputs_alone, {}

    return case


def pad2d(draw: Draw) -> Case:
    mode, operator = draw(st.sampled_from([("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]))
    shape = (draw(st.integers(1, 4)), draw(st.integers(4, 6)), draw(st.integers(4, 6)))
    top, bottom, left, right = (draw(st.integers(0, 3)) for _ in range(4))
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    layer = new("pad2d", padding=[top, bottom, left, right], mode=mode)
    return layer, [shape], "Pad", lambda b: [b.inputs[0], pads], {"mode": operator}


def over_channels(name: str, operator: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        return new(name), [draw(maps)], operator, lambda b: [b.inputs[0], np.array([1], np.int64)], {"keepdims": 1}

    return case


def clip(draw: Draw) -> Case:
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    bounds = [np.float64(low - 1), np.float64(high)]
    return new("clip", min=low - 1, max=high), [draw(shapes)], "Clip", lambda b: [b.inputs[0] * 4, *bounds], {}


def merged(name: str, operator: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = draw(shapes)
        parts = [shape] * draw(st.integers(2, 4))
        if operator == "Concat":
            parts = [(draw(st.integers(1, 3)), *shape[1:]) for _ in parts]
        return new(name), parts, operator, inputs_alone, {"axis": 1} if operator == "Concat" else {}

    return case


def pooled(name: str, operator: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        return new(name), [draw(maps)], operator, inputs_alone, {}

    return case


CASES: Mapping[str, Callable[[Draw], Case]] = {
    "abs": simple("abs", "Abs"),
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "add": merged("add", "Sum"),
    "add with broadcast": broadcast("add", "Add", broadcast=True),
    "batch_norm": batch_norm,
    "channel_max": over_channels("channel_max", "ReduceMax"),
    "channel_mean": over_channels("channel_mean", "ReduceMean"),
    "clip": clip,
    "concat": merged("concat", "Concat"),
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "crop2d": crop2d,
    "dense": dense,
    "depthwise_conv2d": depthwise,
    "dropout": dropout,
    "elu": simple("elu", "Elu", alpha="alpha"),
    "exp": simple("exp", "Exp"),
    "flatten": simple("flatten", "Flatten"),
    "gelu": gelu,
    "global_avg_pool2d": pooled("global_avg_pool2d", "GlobalAveragePool"),
    "global_max_pool2d": pooled("global_max_pool2d", "GlobalMaxPool"),
    "group_norm": group_norm,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": simple("hard_swish", "HardSwish"),
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "leaky_relu": simple("leaky_relu", "LeakyRelu", negative_slope="alpha"),
    "local_response_norm": local_response_norm,
    "maximum": broadcast("maximum", "Max"),
    "minimum": broadcast("minimum", "Min"),
    "mish": simple("mish", "Mish"),
    "multiply": multiply,
    "pad2d": pad2d,
    "permute": permute,
    "pixel_shuffle": pixel_shuffle,
    "prelu": prelu,
    "relu": simple("relu", "Relu"),
    "relu6": relu6,
    "reshape": reshape,
    "selu": simple("selu", "Selu"),
    "sigmoid": simple("sigmoid", "Sigmoid"),
    "silu": silu,
    "slice": slices,
    "softmax": softmax,
    "softplus": simple("softplus", "Softplus"),
    "subtract": broadcast("subtract", "Sub"),
    "tanh": simple("tanh", "Tanh"),
    "upsample2d": upsample2d,
    "zero_pad2d": zero_pad2d,
}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_agrees_with_its_operator(name: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def agrees(data: st.DataObject) -> None:
        layer, of, operator, inputs, attributes = CASES[name](data.draw)
        bench = Bench(layer, of, sizes=[2], mode="infer")
        given_ = inputs(bench)
        bench.inputs[0][...] = given_[0]
        bench.shards[0].operands.x[...] = given_[0]
        expected = evaluate(operator, *given_, **attributes)
        if expected.shape[::2] == (1, 1) and len(bench.shape) == 1:
            expected = expected[0, :, 0]  # where ONNX leaves a map of one pixel
        tolerance = 1e-4 if attributes.get("runtime") else 1e-6
        np.testing.assert_allclose(bench.forward(), expected, rtol=tolerance, atol=tolerance)

    agrees()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_named_paddings_are_those_of_onnx(data: st.DataObject) -> None:
    """`same` is TensorFlow's, SAME_UPPER there, and `same_lower` SAME_LOWER, as onnxruntime lays them out itself."""
    padding, auto_pad = data.draw(st.sampled_from([("same", "SAME_UPPER"), ("same_lower", "SAME_LOWER")]))
    kernel, stride, shape = data.draw(pairs), data.draw(pairs), data.draw(maps)
    bench = Bench(Conv2d(filters=2, kernel_size=kernel, stride=stride, padding=padding), [shape], sizes=[2])
    arrays = [bench.inputs[0], Raw(bench, "weight"), Raw(bench, "bias")]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "auto_pad": auto_pad}
    expected = evaluate("Conv", *arrays, runtime=True, **attributes)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-4, atol=1e-4)
    if kernel[0] >= stride[0] and kernel[1] >= stride[1]:
        pool = Bench(new("max_pool2d", kernel_size=kernel, stride=stride, padding=padding), [shape], sizes=[2])
        expected = evaluate("MaxPool", pool.inputs[0], runtime=True, **attributes)
        np.testing.assert_allclose(pool.forward(), expected, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_ceil_mode_is_that_of_onnxruntime(data: st.DataObject) -> None:
    kernel, stride, shape = data.draw(pairs), data.draw(pairs), data.draw(maps)
    pad = data.draw(st.integers(0, min(kernel) // 2))
    try:
        pool = new("max_pool2d", kernel_size=kernel, stride=stride, padding=pad, ceil_mode=True)
        bench = Bench(pool, [shape], sizes=[2])
    except ShapeError:
        assume(False)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": (pad,) * 4, "ceil_mode": 1}
    expected = evaluate("MaxPool", bench.inputs[0], runtime=True, **attributes)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_grouped_and_dilated_transposed_convolution_is_that_of_onnxruntime(data: st.DataObject) -> None:
    groups, stride = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    layer = ConvTranspose2d(
        filters=groups * data.draw(st.integers(1, 2)),
        kernel_size=data.draw(pairs),
        stride=(stride, stride),
        dilation=data.draw(pairs),
        padding=data.draw(paddings),
        output_padding=(data.draw(st.integers(0, stride - 1)),) * 2,
        groups=groups,
    )
    shape = (groups * data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    _, _, operator, inputs, attributes = convolution(layer, shape, "ConvTranspose")
    bench = Bench(layer, [shape], sizes=[2])
    attributes = {**attributes, "output_padding": layer.output_padding, "runtime": True}
    expected = evaluate(operator, *inputs(bench), **attributes)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_separable_convolution_is_two(data: st.DataObject) -> None:
    fields = {"kernel_size": data.draw(pairs), "stride": data.draw(pairs), "padding": data.draw(paddings)}
    shape, multiplier = data.draw(maps), data.draw(st.integers(1, 2))
    layer = new("separable_conv2d", filters=data.draw(st.integers(1, 3)), multiplier=multiplier, **fields)
    _, _, operator, _, attributes = convolution(layer, shape, "Conv")
    bench = Bench(layer, [shape], sizes=[2])
    middle = evaluate(operator, bench.inputs[0], Raw(bench, "depthwise"), **{**attributes, "group": shape[0]})
    expected = evaluate("Conv", middle, Raw(bench, "pointwise"), Raw(bench, "bias"), kernel_shape=(1, 1))
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-10, atol=1e-10)
