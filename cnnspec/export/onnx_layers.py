"""Every layer as operators of ONNX, each in the lowest opset that supports it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnspec.export import onnx_products, onnx_windows
from cnnspec.export.onnx_writer import FLOOR, ModelWriter, Writer
from cnnspec.graph import Node
from cnnspec.shapes import Shape


def _plain(operator: str, **fields: str) -> Writer:
    """Return a writer for an operator whose attributes are fields of the layer."""

    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        attributes = {attribute: getattr(node.layer, field) for attribute, field in fields.items()}
        made.add(operator, inputs, node.name, **attributes)

    return write


def _batch_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    arrays = [made.parameter(node, name) for name in ("weight", "bias", "running_mean", "running_variance")]
    made.add("BatchNormalization", [*inputs, *arrays], node.name, epsilon=layer.epsilon)


def _group_norm(groups_of: Callable[[Any, int], int]) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        layer: Any = node.layer
        groups = groups_of(layer, node.input_shapes[0][0])
        if not made.has("GroupNormalization"):
            _group_norm_of_instances(made, node, inputs, groups)
            return
        arrays = [made.parameter(node, name) for name in ("weight", "bias")]
        made.add("GroupNormalization", [*inputs, *arrays], node.name, epsilon=layer.epsilon, num_groups=groups)

    return write


def _group_norm_of_instances(made: ModelWriter, node: Node, inputs: Sequence[str], groups: int) -> None:
    """Write a group normalisation as an instance normalisation in which each group is one channel."""
    layer, name = cast(Any, node.layer), node.name
    made.add("Reshape", [*inputs, made.constant(f"{name}.groups", np.array([0, groups, -1]))], f"{name}.grouped")
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    given = [f"{name}.grouped", made.constant(f"{name}.ones", ones), made.constant(f"{name}.zeros", zeros)]
    made.add("InstanceNormalization", given, f"{name}.normal", epsilon=layer.epsilon)
    _reshape_to(made, f"{name}.normal", node.shape, f"{name}.shaped")
    _add_scale_and_bias(made, node, f"{name}.shaped")


def _add_scale_and_bias(made: ModelWriter, node: Node, normal: str) -> None:
    """Write weight normal + bias for each channel, without the bias if there is none."""
    shape = (node.shape[0],) + (1,) * (len(node.shape) - 1)
    weight = made.parameter(node, "weight", shape)
    if "bias" not in node.params:
        made.add("Mul", [normal, weight], node.name)
        return
    made.add("Mul", [normal, weight], f"{node.name}.weighted")
    made.add("Add", [f"{node.name}.weighted", made.parameter(node, "bias", shape)], node.name)


def _layer_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer, name = cast(Any, node.layer), node.name
    if len(node.shape) == 3 and layer.over == "map":
        _group_norm(lambda layer, channels: 1)(made, node, inputs)
    elif not made.has("LayerNormalization"):
        made.reduce("ReduceMean", inputs[0], f"{name}.mean")
        made.add("Sub", [inputs[0], f"{name}.mean"], f"{name}.centred")
        _root_mean_square(made, node, f"{name}.centred")
        _add_scale_and_bias(made, node, f"{name}.normal")
    else:
        arrays = [made.parameter(node, part) for part in ("weight", "bias")]
        if len(node.shape) == 1:
            made.add("LayerNormalization", [*inputs, *arrays], name, epsilon=layer.epsilon)
            return
        last = made.add("Transpose", inputs, f"{name}.last", perm=[0, 2, 3, 1])
        made.add("LayerNormalization", [last, *arrays], f"{name}.normal", epsilon=layer.epsilon)
        made.add("Transpose", [f"{name}.normal"], name, perm=[0, 3, 1, 2])


def _root_mean_square(made: ModelWriter, node: Node, source: str) -> None:
    """Write source / sqrt(mean of its squares over the channels + epsilon), under the name NODE.normal."""
    layer, name = cast(Any, node.layer), node.name
    made.add("Mul", [source, source], f"{name}.square")
    made.reduce("ReduceMean", f"{name}.square", f"{name}.variance")
    made.add("Add", [f"{name}.variance", made.constant(f"{name}.epsilon", np.float32(layer.epsilon))], f"{name}.sum")
    made.add("Sqrt", [f"{name}.sum"], f"{name}.root")
    made.add("Div", [source, f"{name}.root"], f"{name}.normal")


def _rms_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    _root_mean_square(made, node, inputs[0])
    _add_scale_and_bias(made, node, f"{node.name}.normal")


def _response_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer, name, (c, h, w) = cast(Any, node.layer), node.name, node.shape
    if layer.size % 2:
        made.add("LRN", inputs, name, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    # onnxruntime refuses LRN of an even size, so the mean over channels is taken over rows of a map (1, c, h w).
    made.add("Mul", [*inputs, *inputs], f"{name}.squares")
    _reshape_to(made, f"{name}.squares", (1, c, h * w), f"{name}.rows")
    pads = [(layer.size - 1) // 2, 0, layer.size // 2, 0]
    window: dict[str, Any] = {"kernel_shape": [layer.size, 1], "strides": [1, 1], "pads": pads, "count_include_pad": 1}
    made.add("AveragePool", [f"{name}.rows"], f"{name}.means", **window)
    _reshape_to(made, f"{name}.means", node.shape, f"{name}.mean")
    made.add("Mul", [f"{name}.mean", made.constant(f"{name}.alpha", np.float32(layer.alpha))], f"{name}.weighted")
    made.add("Add", [f"{name}.weighted", made.constant(f"{name}.k", np.float32(layer.k))], f"{name}.base")
    made.add("Pow", [f"{name}.base", made.constant(f"{name}.beta", np.float32(layer.beta))], f"{name}.power")
    made.add("Div", [*inputs, f"{name}.power"], name)


def _merge(operator: str) -> Writer:
    """Return a writer for an operator of two inputs, applied to all in turn; vectors become 1x1 maps beside maps."""

    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        _write_merge(made, node, inputs, operator)

    return write


def _write_merge(made: ModelWriter, node: Node, inputs: Sequence[str], operator: str) -> None:
    operands = [
        made.add("Reshape", [name, made.constant(":as_map", np.array([0, 0, 1, 1]))], f"{node.name}.{i}.map")
        if len(shape) < len(node.shape)
        else name
        for i, (name, shape) in enumerate(zip(inputs, node.input_shapes, strict=True))
    ]
    product = operands[0]
    for i, other in enumerate(operands[1:], 2):
        product = made.add(operator, [product, other], node.name if i == len(operands) else f"{node.name}.{i}")
    if len(operands) == 1:
        made.add("Identity", operands, node.name)


def _channels(operator: str) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.reduce(operator, inputs[0], node.name)

    return write


def _pad(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    top, bottom, left, right = layer.padding
    pads = made.constant(f"{node.name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[layer.mode]
    made.add("Pad", [*inputs, pads], node.name, mode=mode, since=19 if mode == "wrap" else None)


def _positions(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("Add", [*inputs, made.parameter(node, "weight", (1, *node.shape))], node.name)


def _prelu(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    shape = (node.shape[0],) + (1,) * (len(node.shape) - 1)
    made.add("PRelu", [*inputs, made.parameter(node, "weight", shape)], node.name)


def _relu6(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    _clipped(made, node, inputs, 0, 6)


def _clip(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    _clipped(made, node, inputs, layer.min, layer.max)


def _clipped(made: ModelWriter, node: Node, inputs: Sequence[str], low: float | None, high: float | None) -> None:
    bounds = {"min": low, "max": high}
    if made.has("Clip"):
        names = [
            "" if bound is None else made.constant(f"{node.name}.{name}", np.float32(bound))
            for name, bound in bounds.items()
        ]
        made.add("Clip", [*inputs, *names], node.name)
        return
    given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    made.add("Clip", inputs, node.name, since=FLOOR, **given)


def _hard_swish(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    if made.has("HardSwish"):
        made.add("HardSwish", inputs, node.name)
        return
    made.add("HardSigmoid", inputs, f"{node.name}.factor", alpha=1 / 6, beta=0.5)
    made.add("Mul", [*inputs, f"{node.name}.factor"], node.name)


def _mish(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    if made.has("Mish"):
        made.add("Mish", inputs, node.name)
        return
    made.add("Softplus", inputs, f"{node.name}.softplus")
    made.add("Tanh", [f"{node.name}.softplus"], f"{node.name}.factor")
    made.add("Mul", [*inputs, f"{node.name}.factor"], node.name)


def _gelu(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer, name = cast(Any, node.layer), node.name
    if made.has("Gelu"):
        made.add("Gelu", inputs, name, approximate=layer.approximate)
        return
    if layer.approximate == "none":  # x (1 + erf(x / sqrt 2)) / 2
        made.add("Mul", [*inputs, made.constant(":root", np.float32(math.sqrt(0.5)))], f"{name}.scaled")
        made.add("Erf", [f"{name}.scaled"], f"{name}.curve")
    else:  # x (1 + tanh(sqrt(2 / pi) x (1 + 0.044715 x^2))) / 2
        made.add("Mul", [*inputs, *inputs], f"{name}.square")
        made.add("Mul", [f"{name}.square", made.constant(":cubic", np.float32(0.044715))], f"{name}.cubic")
        made.add("Add", [f"{name}.cubic", made.constant(":one", np.float32(1))], f"{name}.rising")
        made.add("Mul", [*inputs, made.constant(":linear", np.float32(math.sqrt(2 / math.pi)))], f"{name}.linear")
        made.add("Mul", [f"{name}.linear", f"{name}.rising"], f"{name}.scaled")
        made.add("Tanh", [f"{name}.scaled"], f"{name}.curve")
    made.add("Add", [f"{name}.curve", made.constant(":one", np.float32(1))], f"{name}.twice")
    made.add("Mul", [*inputs, made.constant(":half_number", np.float32(0.5))], f"{name}.half")
    made.add("Mul", [f"{name}.half", f"{name}.twice"], name)


def _softmax(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    name = node.name
    if len(node.shape) == 1:
        made.add("Softmax", inputs, name, axis=1)
        return
    # Before opset 13, softmax joins all axes from the given one on, so the channels have to be the last.
    made.add("Transpose", inputs, f"{name}.last", perm=[0, 2, 3, 1])
    made.add("Softmax", [f"{name}.last"], f"{name}.shares", axis=3)
    made.add("Transpose", [f"{name}.shares"], name, perm=[0, 3, 1, 2])


def _square(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("Mul", [*inputs, *inputs], node.name)


def _scale_shift(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    shape = (-1, *(1,) * (len(node.shape) - 1))
    (last,), given = inputs, [name for name in ("scale", "shift") if getattr(layer, name) is not None]
    for name in given:
        if layer.learned:
            array = made.parameter(node, name, shape)
        else:
            array = made.constant(f"{node.name}.{name}", np.array(getattr(layer, name), np.float32).reshape(shape))
        output = node.name if name == given[-1] else f"{node.name}.scaled"
        last = made.add("Mul" if name == "scale" else "Add", [last, array], output)


def _silu(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("Sigmoid", inputs, f"{node.name}.sigmoid")
    made.add("Mul", [*inputs, f"{node.name}.sigmoid"], node.name)


def _reshape(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    _reshape_to(made, inputs[0], node.shape, node.name)


def _reshape_to(made: ModelWriter, source: str, shape: Shape, output: str) -> None:
    """Write a reshape of every image, which leaves the number of images open."""
    made.add("Reshape", [source, made.constant(f"{output}.shape", np.array([0, *shape]))], output)


def _channel_shuffle(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    (c, h, w), name = node.shape, node.name
    apart = made.constant(f"{name}.apart", np.array([0, layer.groups, c // layer.groups, h * w]))
    made.add("Reshape", [*inputs, apart], f"{name}.groups")
    made.add("Transpose", [f"{name}.groups"], f"{name}.dealt", perm=[0, 2, 1, 3])
    _reshape(made, node, [f"{name}.dealt"])


def _upsample(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    scale = made.constant(f"{node.name}.scale", np.array([1, 1, *layer.scale], np.float32))
    mode = {"nearest": "nearest", "bilinear": "linear"}[layer.mode]
    made.add("Resize", [*inputs, made.constant(":region", np.zeros(0, np.float32)), scale], node.name, mode=mode)


def _zero_pad(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    (top, bottom, left, right), (before, behind) = layer.padding, layer.channels
    pads = np.array([0, before, top, left, 0, behind, bottom, right])
    made.add("Pad", [*inputs, made.constant(f"{node.name}.pads", pads)], node.name)


def _cut(made: ModelWriter, node: Node, inputs: Sequence[str], ranges: Sequence[tuple[int, int, int]]) -> None:
    starts, stops, steps = (np.array(values) for values in zip(*ranges, strict=True))
    arrays = {"starts": starts, "stops": stops, "axes": np.array([1, 2, 3]), "steps": steps}
    names = [made.constant(f"{node.name}.{name}", array) for name, array in arrays.items()]
    made.add("Slice", [*inputs, *names], node.name)


def _crop(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    (c, h, w), (top, bottom, left, right) = node.input_shapes[0], layer.cropping
    _cut(made, node, inputs, [(0, c, 1), (top, h - bottom, 1), (left, w - right, 1)])


def _slice(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    _cut(made, node, inputs, [(part.start, part.stop, part.step) for part in layer.slices(node.input_shapes[0])])


def _permute(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    made.add("Transpose", inputs, node.name, perm=[0, *(axis + 1 for axis in layer.order)])


def _pixel_shuffle(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    made.add("DepthToSpace", inputs, node.name, blocksize=layer.factor, mode="CRD")


def identity(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    """Write an operator that returns its input unchanged."""
    made.add("Identity", inputs, node.name)


def _constant_attributes(operator: str, **attributes: Any) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.add(operator, inputs, node.name, **attributes)

    return write


WRITERS: Mapping[str, Writer] = {
    **onnx_products.WRITERS,
    **onnx_windows.WRITERS,
    "abs": _plain("Abs"),
    "add": _merge("Add"),
    "batch_norm": _batch_norm,
    "channel_shuffle": _channel_shuffle,
    "channel_max": _channels("ReduceMax"),
    "channel_mean": _channels("ReduceMean"),
    "clip": _clip,
    "concat": _constant_attributes("Concat", axis=1),
    "crop2d": _crop,
    "elu": _plain("Elu", alpha="alpha"),
    "exp": _plain("Exp"),
    "flatten": _plain("Flatten"),
    "gelu": _gelu,
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _constant_attributes("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _hard_swish,
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("LeakyRelu", alpha="negative_slope"),
    "local_response_norm": _response_norm,
    "maximum": _merge("Max"),
    "minimum": _merge("Min"),
    "mish": _mish,
    "multiply": _merge("Mul"),
    "pad2d": _pad,
    "permute": _permute,
    "pixel_shuffle": _pixel_shuffle,
    "positions": _positions,
    "prelu": _prelu,
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
    "selu": _plain("Selu"),
    "sigmoid": _plain("Sigmoid"),
    "silu": _silu,
    "slice": _slice,
    "softmax": _softmax,
    "softplus": _plain("Softplus"),
    "square": _square,
    "subtract": _merge("Sub"),
    "tanh": _plain("Tanh"),
    "upsample2d": _upsample,
    "zero_pad2d": _zero_pad,
}
