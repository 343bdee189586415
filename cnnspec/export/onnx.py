"""A graph as an ONNX model for inference: images in, the network's output out, any number of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array

OPSET = 21  # the first with GroupNormalization by channel
Writer = Callable[["ModelWriter", Node, Sequence[str]], None]


@cache
def package() -> Any:
    """Import the onnx package; RunError where it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise RunError("onnx is not installed", "pip install onnx") from error


def model(graph: Graph, values: Mapping[str, Array]) -> Any:
    """Return the graph as an `onnx.ModelProto`, with the parameters and states in `values` by name.

    RunError with all layers that have no counterpart.
    """
    graph = remove_train_only(remove_dead_nodes(graph))
    strange = sorted({node.layer.type_name for node in graph.nodes} - WRITERS.keys())
    if strange:
        raise RunError(f"ONNX has no counterpart of {', '.join(strange)}", "export a spec without such layers")
    onnx, written = package(), ModelWriter(values)
    for node in graph.nodes:
        WRITERS[node.layer.type_name](written, node, node.inputs)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
    made = onnx.helper.make_graph(
        written.nodes,
        graph.name or "network",
        [onnx.helper.make_tensor_value_info(INPUT, kind, ["n", *graph.input_shape])],
        [onnx.helper.make_tensor_value_info(graph.output.name, kind, ["n", *graph.output.shape])],
        written.constants,
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    found = onnx.helper.make_model(made, opset_imports=[opset], ir_version=10, producer_name="cnnspec")
    onnx.checker.check_model(found)
    return found


class ModelWriter:
    """The model while it is written: nodes, and constants by name."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self.values = values
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: set[str] = set()

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append one operator and return the name of its output."""
        self.nodes.append(package().helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Store an array as a constant of the model, once, and return its name."""
        if name not in self.names:
            self.names.add(name)
            self.constants.append(package().numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def parameter(self, node: Node, name: str, shape: Sequence[int] | None = None) -> str:
        """A node's own array, or that of the node that it shares with, in another shape if need be."""
        key = node.keys.get(name, f"{node.name}.{name}")
        value = np.asarray(self.values[key], np.float32)
        return self.constant(key, value if shape is None else value.reshape(shape))


def _plain(operator: str, **fields: str) -> Writer:
    """An operator whose attributes are fields of the layer."""

    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        attributes = {attribute: getattr(node.layer, field) for attribute, field in fields.items()}
        made.add(operator, inputs, node.name, **attributes)

    return write


def _pads(padding: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = padding
    return [top, left, bottom, right]


def _windows(node: Node) -> dict[str, Any]:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    return {"kernel_shape": laid.kernel, "strides": laid.stride, "pads": _pads(laid.padding)}


def _convolution(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    untied = len(node.params["bias"].shape) == 3 if "bias" in node.params else False
    arrays = [made.parameter(node, "weight")]
    if "bias" in node.params and not untied:
        arrays.append(made.parameter(node, "bias"))
    groups = getattr(layer, "groups", node.input_shapes[0][0])  # depthwise: as many as channels
    name = f"{node.name}.product" if untied else node.name
    made.add("Conv", [*inputs, *arrays], name, **_windows(node), dilations=layer.dilation, group=groups)
    if untied:
        made.add("Add", [name, made.parameter(node, "bias", (1, *node.shape))], node.name)


def _separable(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    depthwise = made.parameter(node, "depthwise")
    groups = node.input_shapes[0][0]
    middle = made.add(
        "Conv",
        [*inputs, depthwise],
        f"{node.name}.middle",
        **_windows(node),
        dilations=layer.dilation,
        group=groups,
    )
    arrays = [made.parameter(node, name) for name in ("pointwise", "bias") if name in node.params]
    made.add("Conv", [middle, *arrays], node.name)


def _transposed(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    arrays = [made.parameter(node, name) for name in ("weight", "bias") if name in node.params]
    made.add(
        "ConvTranspose",
        [*inputs, *arrays],
        node.name,
        **_windows(node),
        dilations=layer.dilation,
        group=layer.groups,
        output_padding=layer.output_padding,
    )


def _dense(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    arrays = [made.parameter(node, name) for name in ("weight", "bias") if name in node.params]
    made.add("Gemm", [*inputs, *arrays], node.name, transB=1)


def _max_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("MaxPool", inputs, node.name, **_windows(node))


def _mean(made: ModelWriter, node: Node, source: str, output: str, *, whole: bool) -> None:
    made.add("AveragePool", [source], output, **_windows(node), count_include_pad=int(whole))


def _avg_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    _mean(made, node, inputs[0], node.name, whole=layer.count_include_pad)


def _lp_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    name, exponent = node.name, made.constant(f"{node.name}.p", np.float32(layer.p))
    made.add("Abs", inputs, f"{name}.magnitude")
    made.add("Pow", [f"{name}.magnitude", exponent], f"{name}.power")
    _mean(made, node, f"{name}.power", f"{name}.mean", whole=False)
    made.add("Pow", [f"{name}.mean", made.constant(f"{name}.inverse", np.float32(1 / layer.p))], name)


def _global(operator: str) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.add(operator, inputs, f"{node.name}.map")
        made.add("Flatten", [f"{node.name}.map"], node.name)

    return write


def _adaptive(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    """Bins of unequal size are two products with matrices of weights: rows, then columns."""
    _, height, width = node.input_shapes[0]
    _, rows, columns = node.shape
    name = node.name
    left = made.constant(f"{name}.rows", _bins(height, rows))
    right = made.constant(f"{name}.columns", _bins(width, columns).T)
    made.add("MatMul", [inputs[0], right], f"{name}.narrow")
    made.add("MatMul", [left, f"{name}.narrow"], name)


def _bins(inputs: int, outputs: int) -> Array:
    matrix = np.zeros((outputs, inputs), np.float32)
    for i in range(outputs):
        start, stop = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _batch_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    arrays = [made.parameter(node, name) for name in ("weight", "bias", "running_mean", "running_variance")]
    made.add("BatchNormalization", [*inputs, *arrays], node.name, epsilon=layer.epsilon)


def _group_norm(groups_of: Callable[[Any, int], int]) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        layer: Any = node.layer
        arrays = [made.parameter(node, name) for name in ("weight", "bias")]
        groups = groups_of(layer, node.input_shapes[0][0])
        made.add("GroupNormalization", [*inputs, *arrays], node.name, epsilon=layer.epsilon, num_groups=groups)

    return write


def _layer_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    if len(node.shape) == 3 and layer.over == "map":
        _group_norm(lambda layer, channels: 1)(made, node, inputs)
        return
    name, arrays = node.name, [made.parameter(node, name) for name in ("weight", "bias")]
    if len(node.shape) == 1:
        made.add("LayerNormalization", [*inputs, *arrays], name, epsilon=layer.epsilon)
        return
    last = made.add("Transpose", inputs, f"{name}.last", perm=[0, 2, 3, 1])
    made.add("LayerNormalization", [last, *arrays], f"{name}.normal", epsilon=layer.epsilon)
    made.add("Transpose", [f"{name}.normal"], name, perm=[0, 3, 1, 2])


def _rms_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    (x,), name = inputs, node.name
    made.add("Mul", [x, x], f"{name}.square")
    made.add("ReduceMean", [f"{name}.square", made.constant("channels", np.array([1]))], f"{name}.mean", keepdims=1)
    made.add("Add", [f"{name}.mean", made.constant(f"{name}.epsilon", np.float32(layer.epsilon))], f"{name}.sum")
    made.add("Sqrt", [f"{name}.sum"], f"{name}.root")
    made.add("Div", [x, f"{name}.root"], f"{name}.normal")
    weight = made.parameter(node, "weight", (node.shape[0],) + (1,) * (len(node.shape) - 1))
    made.add("Mul", [f"{name}.normal", weight], name)


def _response_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    made.add("LRN", inputs, node.name, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)


def _merge(operator: str) -> Writer:
    """An operator of two inputs, on one after the other; vectors beside maps are 1x1 maps."""

    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        _merged(made, node, inputs, operator)

    return write


def _merged(made: ModelWriter, node: Node, inputs: Sequence[str], operator: str) -> None:
    whole = [
        made.add("Reshape", [name, made.constant("as_map", np.array([0, 0, 1, 1]))], f"{node.name}.{i}.map")
        if len(shape) < len(node.shape)
        else name
        for i, (name, shape) in enumerate(zip(inputs, node.input_shapes, strict=True))
    ]
    product = whole[0]
    for i, other in enumerate(whole[1:], 2):
        product = made.add(operator, [product, other], node.name if i == len(whole) else f"{node.name}.{i}")
    if len(whole) == 1:
        made.add("Identity", whole, node.name)


def _channels(operator: str) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.add(operator, [*inputs, made.constant("channels", np.array([1]))], node.name, keepdims=1)

    return write


def _pad(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    top, bottom, left, right = layer.padding
    pads = made.constant(f"{node.name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[layer.mode]
    made.add("Pad", [*inputs, pads], node.name, mode=mode)


def _positions(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("Add", [*inputs, made.parameter(node, "weight", (1, *node.shape))], node.name)


def _prelu(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    shape = (node.shape[0],) + (1,) * (len(node.shape) - 1)
    made.add("PRelu", [*inputs, made.parameter(node, "weight", shape)], node.name)


def _relu6(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    bounds = [made.constant("zero", np.float32(0)), made.constant("six", np.float32(6))]
    made.add("Clip", [*inputs, *bounds], node.name)


def _clip(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    bounds = [
        "" if bound is None else made.constant(f"{node.name}.{name}", np.float32(bound))
        for name, bound in (("min", layer.min), ("max", layer.max))
    ]
    made.add("Clip", [*inputs, *bounds], node.name)


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
    made.add("Sigmoid", inputs, f"{node.name}.gate")
    made.add("Mul", [*inputs, f"{node.name}.gate"], node.name)


def _reshape(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("Reshape", [*inputs, made.constant(f"{node.name}.shape", np.array([-1, *node.shape]))], node.name)


def _channel_shuffle(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    (c, h, w), name = node.shape, node.name
    apart = made.constant(f"{name}.apart", np.array([-1, layer.groups, c // layer.groups, h * w]))
    made.add("Reshape", [*inputs, apart], f"{name}.groups")
    made.add("Transpose", [f"{name}.groups"], f"{name}.dealt", perm=[0, 2, 1, 3])
    _reshape(made, node, [f"{name}.dealt"])


def _upsample(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    scale = made.constant(f"{node.name}.scale", np.array([1, 1, *layer.scale], np.float32))
    mode = {"nearest": "nearest", "bilinear": "linear"}[layer.mode]
    made.add("Resize", [*inputs, "", scale], node.name, mode=mode)


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


def _constant_attributes(operator: str, **attributes: Any) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.add(operator, inputs, node.name, **attributes)

    return write


WRITERS: Mapping[str, Writer] = {
    "adaptive_avg_pool2d": _adaptive,
    "abs": _plain("Abs"),
    "add": _merge("Add"),
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "channel_shuffle": _channel_shuffle,
    "channel_max": _channels("ReduceMax"),
    "channel_mean": _channels("ReduceMean"),
    "clip": _clip,
    "concat": _constant_attributes("Concat", axis=1),
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "crop2d": _crop,
    "dense": _dense,
    "depthwise_conv2d": _convolution,
    "elu": _plain("Elu", alpha="alpha"),
    "exp": _plain("Exp"),
    "flatten": _plain("Flatten"),
    "gelu": _plain("Gelu", approximate="approximate"),
    "global_avg_pool2d": _global("GlobalAveragePool"),
    "global_max_pool2d": _global("GlobalMaxPool"),
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _constant_attributes("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _plain("HardSwish"),
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("LeakyRelu", alpha="negative_slope"),
    "local_response_norm": _response_norm,
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "maximum": _merge("Max"),
    "minimum": _merge("Min"),
    "mish": _plain("Mish"),
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
    "separable_conv2d": _separable,
    "sigmoid": _plain("Sigmoid"),
    "silu": _silu,
    "slice": _slice,
    "softmax": _constant_attributes("Softmax", axis=1),
    "softplus": _plain("Softplus"),
    "square": _square,
    "subtract": _merge("Sub"),
    "tanh": _plain("Tanh"),
    "upsample2d": _upsample,
    "zero_pad2d": _zero_pad,
}
