"""A graph as an ONNX model for inference: images in, the network's output out, any number of them."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np

from cnnspec import __version__
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.counted_padding import counted_padding
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, Windows
from cnnspec.train.network import Network

FLOOR = 9  # the first opset whose files, in version 4 of the format, hold constants that are no inputs
NEWEST = 21  # that is written: the first with GroupNormalization by channel
SINCE = {  # the opset from which on an operator is what is written here; those that are left out are so from FLOOR on
    "Clip": 11,
    "DepthToSpace": 11,
    "Gelu": 20,
    "GroupNormalization": 21,
    "HardSwish": 14,
    "LayerNormalization": 17,
    "Mish": 18,
    "Pad": 11,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "Resize": 11,
    "Slice": 10,
}
PIXELS = "pixels"  # what enters a model with the preprocessing inside
Writer = Callable[["ModelWriter", Node, Sequence[str]], None]


@cache
def package() -> Any:
    """Import the onnx package; RunError where it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise RunError("onnx is not installed", "pip install onnx") from error


def model(graph: Graph, values: Mapping[str, Array], opset: int | None = None) -> Any:
    """Return the graph as an `onnx.ModelProto`, with the parameters and states in `values` by name.

    `opset` is the lowest that serves unless given. RunError with all layers that have no counterpart.
    """
    graph = _exportable(graph, opset)
    written = _written(graph, values, opset)
    return _model(graph, written, INPUT, graph.input_shape, np.dtype("float32"))


def network_model(network: Network, text: str, opset: int | None = None, *, raw: bool = False) -> Any:
    """Return a trained network as an `onnx.ModelProto`, with labels and the spec's text as metadata.

    Bytes enter it, as images are before `preprocess`, and values leave it in the data's units; `raw`: numbers enter
    that are normalised, and leave as the network gives them.
    """
    graph, pipeline = _exportable(network.graph, opset), network.pipeline
    dtype: np.dtype[Any] = np.dtype("float32")
    entry, shape = INPUT, network.graph.input_shape
    if not raw and pipeline is not None:
        entry, shape, dtype = PIXELS, pipeline.shape or shape, np.dtype("uint8")
    written = _written(graph, dict(network.weights.arrays()), opset, None if raw else pipeline)
    mean, deviation = (() if raw else numbers for numbers in (network.target.mean, network.target.deviation))
    made = _model(graph, written, entry, shape, dtype, mean, deviation)
    names = (pipeline.classes if pipeline is not None else ()) or network.target.names
    package().helper.set_model_props(
        made, {"labels": json.dumps(list(names)), "spec": text, "input": _described(entry, shape, pipeline)}
    )
    return made


def _described(entry: str, shape: Shape, pipeline: Pipeline | None) -> str:
    sizes = ", ".join(map(str, shape))
    if entry == INPUT:
        return f"numbers (n, {sizes}), normalised as the spec's data.preprocess says"
    assert pipeline is not None
    colours = {1: "grey, ", 3: "red, green and blue, "}.get(shape[0], "")
    return f"bytes (n, {sizes}): {colours}fit to this size bilinearly with antialiasing; all else is in the model"


def _exportable(graph: Graph, opset: int | None) -> Graph:
    """The nodes that inference needs; RunError where they, or the opset, cannot be written."""
    graph = remove_dead_nodes(remove_train_only(graph.answering))
    strange = sorted({node.layer.type_name for node in graph.nodes if not node.layer.train_only} - WRITERS.keys())
    if strange:
        raise RunError(f"ONNX has no counterpart of {', '.join(strange)}", "export a spec without such layers")
    if opset is not None and not FLOOR <= opset <= NEWEST:
        raise RunError(f"expected an opset from {FLOOR} to {NEWEST}, got {opset}", "leave it out for the lowest")
    return graph


def _written(
    graph: Graph, values: Mapping[str, Array], opset: int | None, pipeline: Pipeline | None = None
) -> ModelWriter:
    """All operators, written for an opset; unless given it is raised until it has all that is written for it."""
    written = ModelWriter(values, opset or FLOOR)
    if pipeline is not None:
        _preprocessing(written, pipeline, pipeline.shape or graph.input_shape)
    for node in graph.nodes:
        WRITERS.get(node.layer.type_name, _constant_attributes("Identity"))(written, node, node.inputs)
    if written.needed <= written.opset:
        return written
    if opset is not None:
        raise RunError(f"this network needs opset {written.needed} at least, got {opset}", "leave --opset out")
    return _written(graph, values, written.needed, pipeline)


def _model(
    graph: Graph,
    written: ModelWriter,
    entry: str,
    shape: Shape,
    dtype: np.dtype[Any],
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Any:
    onnx, kinds = package(), {node.name: node.shape for node in graph.nodes}
    last = graph.output.name
    if mean:
        spread = written.constant(f"{last}.deviation", np.array(deviation, np.float32))
        written.add("Mul", [last, spread], f"{last}.spread")
        shift = written.constant(f"{last}.mean", np.array(mean, np.float32))
        last = written.add("Add", [f"{last}.spread", shift], f"{last}.values")
        kinds[last] = graph.output.shape
    float32 = onnx.TensorProto.FLOAT
    infos = {name: onnx.helper.make_tensor_value_info(name, float32, ["n", *shape]) for name, shape in kinds.items()}
    made = onnx.helper.make_graph(
        written.nodes,
        graph.name or "network",
        [onnx.helper.make_tensor_value_info(entry, onnx.helper.np_dtype_to_tensor_dtype(dtype), ["n", *shape])],
        [infos.pop(last)],
        written.constants,
        value_info=list(infos.values()),
    )
    imports = [onnx.helper.make_opsetid("", written.opset)]
    version = max(4, onnx.helper.find_min_ir_version_for(imports))
    found = onnx.helper.make_model(
        made, opset_imports=imports, ir_version=version, producer_name="cnnspec", producer_version=__version__
    )
    found = onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(found, full_check=True)
    return found


class ModelWriter:
    """The model while it is written: nodes, constants by name, and the opset that they need."""

    def __init__(self, values: Mapping[str, Array], opset: int) -> None:
        self.values = values
        self.opset = opset
        self.needed = FLOOR
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: set[str] = set()

    def has(self, operator: str) -> bool:
        """Whether the opset that is written for has an operator."""
        return SINCE.get(operator, FLOOR) <= self.opset

    def add(
        self, operator: str, inputs: Sequence[str], output: str, *, since: int | None = None, **attributes: Any
    ) -> str:
        """Append one operator and return the name of its output; `since` is the opset that it needs as written."""
        self.needed = max(self.needed, SINCE.get(operator, FLOOR) if since is None else since)
        self.nodes.append(package().helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def reduce(self, operator: str, source: str, output: str) -> str:
        """Append a reduction over the channels, which stay as an axis of length 1."""
        if self.has(operator):
            return self.add(operator, [source, self.constant(":channels", np.array([1]))], output, keepdims=1)
        return self.add(operator, [source], output, since=FLOOR, axes=[1], keepdims=1)

    def constant(self, name: str, value: Any) -> str:
        """Store an array as a constant of the model, once, and return its name."""
        if name not in self.names:
            self.names.add(name)
            self.constants.append(
                package().numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
            )
        return name

    def parameter(self, node: Node, name: str, shape: Sequence[int] | None = None) -> str:
        """A node's own array, or that of the node that it shares with, in another shape if need be."""
        key = node.keys.get(name, f"{node.name}.{name}")
        value = np.asarray(self.values[key], np.float32)
        return (
            self.constant(key, value) if shape is None else self.constant(f"{key}.{len(shape)}", value.reshape(shape))
        )


def _preprocessing(made: ModelWriter, pipeline: Pipeline, shape: Shape) -> None:
    """What the pipeline does behind the decoding, from `PIXELS` to `INPUT`."""
    kinds = package().TensorProto
    last = PIXELS
    for position, transform in enumerate(pipeline.preprocess, 1):
        before, shape, name = shape, transform.infer_shape(shape), f"{transform.type_name}_{position}"
        match transform:
            case Resize():  # in float64, which holds weights and sums exactly; each pass rounds to bytes
                half = made.constant(":half", np.float64(0.5))
                down, across = resampling(before, shape)
                for axis, weights in (("columns", across.T), ("rows", down)):
                    made.add("Cast", [last], f"{name}.{axis}.exact", to=kinds.DOUBLE)
                    factors = [f"{name}.{axis}.exact", made.constant(f"{name}.{axis}.weights", weights)]
                    made.add("MatMul", factors if axis == "columns" else factors[::-1], f"{name}.{axis}.sums")
                    made.add("Add", [f"{name}.{axis}.sums", half], f"{name}.{axis}.upwards")
                    last = made.add("Cast", [f"{name}.{axis}.upwards"], f"{name}.{axis}", to=kinds.INT32)
            case Pad():
                (top, bottom), (left, right) = transform.sides()
                made.add("Cast", [last], f"{name}.number", to=kinds.FLOAT)
                pads = made.constant(f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
                value = made.constant(f"{name}.value", np.float32(transform.value))
                last = made.add("Pad", [f"{name}.number", pads, value], name)
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                strange = transform.type_name
                raise RunError(f"ONNX has no counterpart of {strange}", "--raw leaves the preprocessing out")
    scale, shift = (values.reshape(-1, 1, 1) for values in pipeline.affine)
    made.add("Cast", [last], f"{PIXELS}.number", to=kinds.FLOAT)
    made.add("Mul", [f"{PIXELS}.number", made.constant(f"{PIXELS}.scale", scale)], f"{PIXELS}.scaled")
    made.add("Add", [f"{PIXELS}.scaled", made.constant(f"{PIXELS}.shift", shift)], INPUT)


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
    if "bias" in node.params:
        weight = made.parameter(node, "weight")
        made.add("Gemm", [*inputs, weight, made.parameter(node, "bias")], node.name, transB=1)
        return
    key = node.keys.get("weight", f"{node.name}.weight")
    turned = made.constant(f"{key}.turned", np.asarray(made.values[key], np.float32).T)
    made.add("MatMul", [*inputs, turned], node.name)


def _max_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("MaxPool", inputs, node.name, **_windows(node))


def _mean(made: ModelWriter, node: Node, source: str, output: str, *, whole: bool) -> None:
    made.add("AveragePool", [source], output, **_windows(node), count_include_pad=int(whole))


def _avg_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    laid, counted = layer.windows(node.input_shapes[0]), counted_padding(node)
    if counted in ((0, 0, 0, 0), laid.padding):
        _mean(made, node, inputs[0], node.name, whole=any(counted))
        return
    _mean(made, node, inputs[0], f"{node.name}.whole", whole=True)
    size = math.prod(laid.kernel) / _counts(laid, counted)
    made.add("Mul", [f"{node.name}.whole", made.constant(f"{node.name}.counts", size.astype(np.float32))], node.name)


def _counts(laid: Windows, counted: Sequence[int]) -> Array:
    """How many elements of each window count, (oh, ow)."""
    found = []
    for axis, length in enumerate((laid.height, laid.width)):
        before, after = counted[2 * axis : 2 * axis + 2]
        starts = np.arange(laid.output[axis]) * laid.stride[axis] - laid.padding[2 * axis]
        ends = np.minimum(starts + laid.kernel[axis], length + after)
        found.append(ends - np.maximum(starts, -before))
    return np.asarray(found[0][:, None] * found[1])


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
        groups = groups_of(layer, node.input_shapes[0][0])
        if not made.has("GroupNormalization"):
            _group_norm_of_instances(made, node, inputs, groups)
            return
        arrays = [made.parameter(node, name) for name in ("weight", "bias")]
        made.add("GroupNormalization", [*inputs, *arrays], node.name, epsilon=layer.epsilon, num_groups=groups)

    return write


def _group_norm_of_instances(made: ModelWriter, node: Node, inputs: Sequence[str], groups: int) -> None:
    """A group is normalised as a channel is whose row are all its numbers."""
    layer, name = cast(Any, node.layer), node.name
    made.add("Reshape", [*inputs, made.constant(f"{name}.groups", np.array([0, groups, -1]))], f"{name}.grouped")
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    given = [f"{name}.grouped", made.constant(f"{name}.ones", ones), made.constant(f"{name}.zeros", zeros)]
    made.add("InstanceNormalization", given, f"{name}.normal", epsilon=layer.epsilon)
    _reshape_to(made, f"{name}.normal", node.shape, f"{name}.shaped")
    _scaled(made, node, f"{name}.shaped")


def _scaled(made: ModelWriter, node: Node, normal: str) -> None:
    """weight normal + bias for each channel, the bias where there is one."""
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
        _scaled(made, node, f"{name}.normal")
    else:
        arrays = [made.parameter(node, part) for part in ("weight", "bias")]
        if len(node.shape) == 1:
            made.add("LayerNormalization", [*inputs, *arrays], name, epsilon=layer.epsilon)
            return
        last = made.add("Transpose", inputs, f"{name}.last", perm=[0, 2, 3, 1])
        made.add("LayerNormalization", [last, *arrays], f"{name}.normal", epsilon=layer.epsilon)
        made.add("Transpose", [f"{name}.normal"], name, perm=[0, 3, 1, 2])


def _root_mean_square(made: ModelWriter, node: Node, source: str) -> None:
    """source / sqrt(mean of its squares over the channels + epsilon), under the name NODE.normal."""
    layer, name = cast(Any, node.layer), node.name
    made.add("Mul", [source, source], f"{name}.square")
    made.reduce("ReduceMean", f"{name}.square", f"{name}.variance")
    made.add("Add", [f"{name}.variance", made.constant(f"{name}.epsilon", np.float32(layer.epsilon))], f"{name}.sum")
    made.add("Sqrt", [f"{name}.sum"], f"{name}.root")
    made.add("Div", [source, f"{name}.root"], f"{name}.normal")


def _rms_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    _root_mean_square(made, node, inputs[0])
    _scaled(made, node, f"{node.name}.normal")


def _response_norm(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer, name, (c, h, w) = cast(Any, node.layer), node.name, node.shape
    if layer.size % 2:
        made.add("LRN", inputs, name, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    # onnxruntime refuses LRN of an even size: the mean over channels is one over the rows of a map (1, c, h w).
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
    """An operator of two inputs, on one after the other; vectors beside maps are 1x1 maps."""

    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        _merged(made, node, inputs, operator)

    return write


def _merged(made: ModelWriter, node: Node, inputs: Sequence[str], operator: str) -> None:
    whole = [
        made.add("Reshape", [name, made.constant(":as_map", np.array([0, 0, 1, 1]))], f"{node.name}.{i}.map")
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
    # Before opset 13 all axes from the given one on are one: the channels have to be the last.
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
    """The images stay, whatever their number."""
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
    "gelu": _gelu,
    "global_avg_pool2d": _global("GlobalAveragePool"),
    "global_max_pool2d": _global("GlobalMaxPool"),
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _constant_attributes("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _hard_swish,
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("LeakyRelu", alpha="negative_slope"),
    "local_response_norm": _response_norm,
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
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
    "separable_conv2d": _separable,
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
