"""Every layer that has an ONNX operator against the reference evaluator, over random configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec import registry
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.response_norm import LocalResponseNorm
from cnnspec.layers.transposed import ConvTranspose2d
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = tuple[Layer, Sequence[Shape], str, Callable[[Bench], Sequence[Array]], Mapping[str, Any]]

lengths = st.integers(1, 7)
maps = st.tuples(st.integers(1, 5), lengths, lengths)
shapes = st.one_of(maps, st.tuples(st.integers(1, 9)))
paddings: st.SearchStrategy[Any] = st.sampled_from(["valid", 1, (0, 1, 1, 0)])
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
numbers = st.floats(0.0625, 2.0, width=32)  # as ONNX keeps its attributes


def new(name: str, **fields: Any) -> Layer:
    layer: Layer = registry.find("layer", name)(**fields)
    return layer


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
        output_padding=draw(st.integers(0, stride - 1)),
    )
    found = convolution(layer, draw(maps), "ConvTranspose")
    attributes = {**found[4], "output_padding": (layer.output_padding,) * 2}
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


def merged(name: str, operator: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = draw(shapes)
        count = draw(st.integers(2, 4)) if operator != "Mul" else 2
        attributes = {"axis": 1} if operator == "Concat" else {}
        return new(name), [shape] * count, operator, inputs_alone, attributes

    return case


def pooled(name: str, operator: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        return new(name), [draw(maps)], operator, inputs_alone, {}

    return case


CASES: Mapping[str, Callable[[Draw], Case]] = {
    "add": merged("add", "Sum"),
    "batch_norm": batch_norm,
    "concat": merged("concat", "Concat"),
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "dense": dense,
    "depthwise_conv2d": depthwise,
    "elu": simple("elu", "Elu", alpha="alpha"),
    "flatten": simple("flatten", "Flatten"),
    "gelu": gelu,
    "group_norm": group_norm,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": simple("hard_swish", "HardSwish"),
    "instance_norm": instance_norm,
    "leaky_relu": simple("leaky_relu", "LeakyRelu", negative_slope="alpha"),
    "mish": simple("mish", "Mish"),
    "multiply": merged("multiply", "Mul"),
    "permute": permute,
    "pixel_shuffle": pixel_shuffle,
    "prelu": prelu,
    "relu": simple("relu", "Relu"),
    "relu6": relu6,
    "selu": simple("selu", "Selu"),
    "sigmoid": simple("sigmoid", "Sigmoid"),
    "slice": slices,
    "softmax": softmax,
    "softplus": simple("softplus", "Softplus"),
    "tanh": simple("tanh", "Tanh"),
    "upsample2d": upsample2d,
    "zero_pad2d": zero_pad2d,
}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_agrees_with_its_operator(name: str) -> None:
    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.data())
    def agrees(data: st.DataObject) -> None:
        layer, of, operator, inputs, attributes = CASES[name](data.draw)
        bench = Bench(layer, of, sizes=[2], mode="infer")
        given_ = inputs(bench)
        bench.inputs[0][...] = given_[0]
        bench.shards[0].operands.x[...] = given_[0]
        expected = evaluate(operator, *given_, **attributes)
        np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-6)

    agrees()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(shape=maps, size=st.integers(1, 6), alpha=numbers, beta=numbers)
def test_local_response_norm_against_its_formula(shape: Shape, size: int, alpha: float, beta: float) -> None:
    """The reference evaluator takes as many channels as there are images, so here are the loops."""
    bench = Bench(LocalResponseNorm(size=size, alpha=alpha, beta=beta, k=1.5), [shape], sizes=[2])
    x = bench.inputs[0]
    expected = np.empty_like(x)
    for c in range(shape[0]):
        window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        expected[:, c] = x[:, c] / (1.5 + alpha / size * (window**2).sum(1)) ** beta
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-12)


def naive_transposed(layer: ConvTranspose2d, x: Array, weight: Array) -> Array:
    """By the definition: every pixel adds its window."""
    laid = layer.windows((x.shape[1], x.shape[0], x.shape[2]))
    (h, c, w, n), per = x.shape, layer.filters // layer.groups
    top, bottom, left, right = laid.padding
    y = np.zeros((laid.height + top + bottom, layer.filters, laid.width + left + right, n))
    for i in range(h):
        for j in range(w):
            for u in range(layer.kernel_size[0]):
                for v in range(layer.kernel_size[1]):
                    row, column = i * laid.stride[0] + u * laid.dilation[0], j * laid.stride[1] + v * laid.dilation[1]
                    for channel in range(c):
                        first = channel // (c // layer.groups) * per
                        place = y[row, first : first + per, column]
                        place += weight[channel, :, u, v, None] * x[i, channel, j]
    return y[top : y.shape[0] - bottom, :, left : y.shape[2] - right]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_transposed_convolution_against_loops(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 2))
    stride = data.draw(pairs)
    layer = ConvTranspose2d(
        filters=groups * data.draw(st.integers(1, 2)),
        kernel_size=data.draw(pairs),
        stride=stride,
        dilation=data.draw(pairs),
        padding=data.draw(paddings),
        output_padding=data.draw(st.integers(0, min(stride) - 1)),
        groups=groups,
        bias="none",
    )
    shape = (groups * data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    bench = Bench(layer, [shape], sizes=[2])
    y = bench.forward()
    np.testing.assert_allclose(y, naive_transposed(layer, bench.inputs[0], bench.params["weight"]), atol=1e-12)


def test_padding_same_is_told_apart() -> None:
    """Of an even length at stride 2: TensorFlow pads the end, ONNX's SAME_LOWER the beginning, PyTorch's half both."""
    names = ("same", "same_lower", "half")
    found = {
        name: Conv2d(filters=1, kernel_size=(3, 3), stride=(2, 2), padding=name).windows((1, 8, 8)).padding
        for name in names
    }
    assert found == {"same": (0, 1, 0, 1), "same_lower": (1, 0, 1, 0), "half": (1, 1, 1, 1)}
