"""A trained network as a PyTorch module: its source, for people to read and to go on with, and weights by its names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.straight_line import assignment, batch_of, identifier, variables_of
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import remove_dead_nodes
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

Margins = tuple[int, int, int, int]  # top, bottom, left, right
RESERVED = {"self", "torch", "nn", "F", "Tensor"}

SOURCE = '''\
"""{title} in PyTorch; its trained weights are in {archive} beside this file (pip install torch safetensors).

    network = load()
    outputs = network({entry})  # {output}
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

{classes}
class Network(nn.Module):
    """Numbers {input} to outputs {output}; {count:,} parameters."""

    def __init__(self) -> None:
        super().__init__()
{modules}

    def forward(self, x: Tensor) -> Tensor:
{lines}
{prepare}

def load(path: str | Path = Path(__file__).with_suffix(".safetensors")) -> Network:
    """The network with its trained weights, for inference: dropout is off, and statistics are the running ones."""
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()
'''
PREPARE = '''
    def prepare(self, images: Tensor) -> Tensor:
        """Bytes {given} to the numbers {shape} that the network takes."""
{steps}        scale = torch.tensor({scale}).reshape(-1, 1, 1)
        shift = torch.tensor({shift}).reshape(-1, 1, 1)
        return images.float() * scale + shift
'''
# Each new row and column is a mean of the old ones with weights, rounded to a byte; the sums are exact in float64.
RESIZE = """\
        images = torch.floor(images.double() @ self.{name}_across.T + 0.5)
        images = torch.floor(self.{name}_down @ images + 0.5)  # {shape}"""


@dataclass(frozen=True)
class Written:
    """A layer in PyTorch: modules and parameters by attribute, and what computes it from its inputs.

    `names` are the names in the module's state of the layer's own arrays.
    """

    call: str
    modules: Mapping[str, str]
    names: Mapping[str, str]


def source(network: Network, name: str, *, raw: bool) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.safetensors.

    RunError with all layers, or with the steps of the preprocessing, that have no counterpart here.
    """
    graph = remove_dead_nodes(network.graph.answering)
    strange = sorted({node.layer.type_name for node in graph.nodes} - WRITERS.keys())
    if strange:
        raise RunError(f"no counterpart of {', '.join(strange)} in PyTorch is known here", "export --format onnx")
    pipeline = None if raw else network.pipeline
    modules, lines, arrays = _network(graph, dict(network.weights.arrays()))
    prepare = ""
    if pipeline is not None:
        prepare, buffers, weights = _prepare(pipeline, pipeline.shape or graph.input_shape)
        modules, arrays = [*buffers, *modules], arrays | weights
    names = (network.pipeline.classes if network.pipeline is not None else ()) or network.target.names
    if network.target.mean:
        mean, deviation = network.target.mean, network.target.deviation
        lines[-1:] = [f"        x = {lines[-1].split('return ')[1]}"]
        lines += [f"        return x * torch.tensor({_listed(deviation)}) + torch.tensor({_listed(mean)})"]
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.safetensors",
        entry="network.prepare(images)" if pipeline is not None else "x",
        classes=f"CLASSES = {json.dumps(list(names), ensure_ascii=False)}\n\n" if names else "",
        input=batch_of(graph.input_shape),
        output=batch_of(graph.output.shape),
        count=graph.parameter_count,
        modules="\n".join(modules) or "        pass",
        lines="\n".join(lines),
        prepare=prepare,
    )
    return text, arrays


def state(network: Network) -> dict[str, Array]:
    """Return a network's arrays by the names that `source` gives them in PyTorch."""
    graph = remove_dead_nodes(network.graph.answering)
    strange = sorted({node.layer.type_name for node in graph.nodes if node.params} - WRITERS.keys())
    if strange:
        raise RunError(f"no names of {', '.join(strange)} in PyTorch are known here", "export --format numpy")
    return _network(graph, dict(network.weights.arrays()))[2]


def _network(graph: Graph, values: Mapping[str, Array]) -> tuple[list[str], list[str], dict[str, Array]]:
    """The lines that make the modules, the lines that compute the network, and the arrays by PyTorch's names."""
    variables = variables_of(graph, RESERVED)
    modules: list[str] = []
    lines = [] if variables[INPUT] == "x" else [f"        {variables[INPUT]} = x"]
    arrays: dict[str, Array] = {}
    for node in graph.nodes:
        writer = WRITERS.get(node.layer.type_name)
        if writer is None:
            continue
        own = identifier(node.share or node.name)
        written = writer(node, own, [variables[name] for name in node.inputs])
        if not node.share:
            modules += [f"        self.{attribute} = {made}" for attribute, made in written.modules.items()]
            for part, name in written.names.items():
                arrays[name] = np.ascontiguousarray(values[f"{node.name}.{part}"])
        lines += assignment(variables[node.name], written.call, node.shape, " " * 8)
    lines.append(f"        return {variables[graph.output.name]}")
    return modules, lines, arrays


def _prepare(pipeline: Pipeline, shape: Shape) -> tuple[str, list[str], dict[str, Array]]:
    """The method that does what the pipeline does behind the decoding, its buffers, and the arrays in them."""
    given, steps, buffers, arrays = shape, list[str](), list[str](), dict[str, Array]()
    for position, transform in enumerate(pipeline.preprocess, 1):
        before, shape = shape, transform.infer_shape(shape)
        match transform:
            case Resize():
                name = f"resize_{position}"
                for axis, weights in zip(("down", "across"), resampling(before, shape), strict=True):
                    arrays[f"{name}_{axis}"] = np.ascontiguousarray(weights, np.float64)
                    zeros = f"torch.zeros({weights.shape!r}, dtype=torch.float64)"
                    buffers.append(f'        self.register_buffer("{name}_{axis}", {zeros})')
                steps.append(RESIZE.format(name=name, shape=batch_of(shape)))
            case Pad():
                (top, bottom), (left, right) = transform.sides()
                padded = _padded("images", (top, bottom, left, right), f", value={transform.value}")
                steps.append(f"        images = {padded}  # {batch_of(shape)}")
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                what = transform.type_name
                raise RunError(f"the PyTorch source has no words for {what}", "--raw leaves the preprocessing out")
    scale, shift = (_listed(values) for values in pipeline.affine)
    lines = "".join(f"{step}\n" for step in steps)
    text = PREPARE.format(given=batch_of(given), shape=batch_of(shape), steps=lines, scale=scale, shift=shift)
    return text, buffers, arrays


def _listed(values: Any) -> str:
    return "[" + ", ".join(repr(float(np.float32(value))) for value in np.ravel(values)) + "]"


def _pair(values: tuple[int, int]) -> str:
    return str(values[0]) if values[0] == values[1] else repr(tuple(values))


def _padded(x: str, margins: Margins, value: str = "") -> str:
    top, bottom, left, right = margins
    return f"F.pad({x}, ({left}, {right}, {top}, {bottom}){value})" if any(margins) else x


def _even(x: str, margins: Margins, value: str = "") -> tuple[str, tuple[int, int]]:
    """The map, and the padding that a module adds itself: it can, where both sides are alike."""
    top, bottom, left, right = margins
    return (x, (top, left)) if (top, left) == (bottom, right) else (_padded(x, margins, value), (0, 0))


def _options(**given: object) -> str:
    """The arguments of a module that are not its default."""
    usual = {"stride": "1", "padding": "0", "dilation": "1", "groups": "1", "output_padding": "0", "bias": "True"}
    return "".join(f", {name}={value}" for name, value in given.items() if usual.get(name) != str(value))


def _convolution(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    x, padding = _even(inputs[0], laid.padding)
    filters, kernel = node.shape[0], _pair(laid.kernel)
    bias = "bias" in node.params or (bool(node.share) and "bias" in node.keys)
    untied = bias and len(node.params["bias"].shape if not node.share else ()) == 3
    if untied:
        raise RunError(f"{node.name}: no counterpart of bias: untied in PyTorch is known here", "write bias: channel")
    made = f"nn.Conv2d({channels}, {filters}, {kernel}" + _options(
        stride=_pair(laid.stride),
        padding=_pair(padding),
        dilation=_pair(laid.dilation),
        groups=getattr(layer, "groups", channels),
        bias=bias,
    )
    return Written(f"self.{own}({x})", {own: made + ")"}, _plain_names(node, own))


def _separable(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    x, padding = _even(inputs[0], laid.padding)
    middle = channels * layer.multiplier
    first = f"nn.Conv2d({channels}, {middle}, {_pair(laid.kernel)}" + _options(
        stride=_pair(laid.stride), padding=_pair(padding), dilation=_pair(laid.dilation), groups=channels, bias=False
    )
    second = f"nn.Conv2d({middle}, {node.shape[0]}, 1" + _options(bias="bias" in node.keys)
    names = {"depthwise": f"{own}_depthwise.weight", "pointwise": f"{own}_pointwise.weight"}
    names |= {"bias": f"{own}_pointwise.bias"} if "bias" in node.params else {}
    modules = {f"{own}_depthwise": first + ")", f"{own}_pointwise": second + ")"}
    return Written(f"self.{own}_pointwise(self.{own}_depthwise({x}))", modules, names)


def _transposed(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    top, bottom, left, right = laid.padding
    made = f"nn.ConvTranspose2d({channels}, {node.shape[0]}, {_pair(laid.kernel)}" + _options(
        stride=_pair(laid.stride),
        output_padding=_pair(_both(layer.output_padding)),
        groups=layer.groups,
        bias="bias" in node.keys,
        dilation=_pair(laid.dilation),
    )
    call = f"self.{own}({inputs[0]})"
    return Written(_padded(call, (-top, -bottom, -left, -right)), {own: made + ")"}, _plain_names(node, own))


def _both(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _dense(node: Node, own: str, inputs: Sequence[str]) -> Written:
    made = f"nn.Linear({node.input_shapes[0][0]}, {node.shape[0]}" + _options(bias="bias" in node.keys)
    return Written(f"self.{own}({inputs[0]})", {own: made + ")"}, _plain_names(node, own))


def _batch_norm(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    kind = "BatchNorm2d" if len(node.shape) == 3 else "BatchNorm1d"
    made = f"nn.{kind}({node.shape[0]}, eps={layer.epsilon!r}, momentum={round(1 - layer.momentum, 10)!r})"
    names = _plain_names(node, own)
    names |= {"running_mean": f"{own}.running_mean", "running_variance": f"{own}.running_var"}
    return Written(f"self.{own}({inputs[0]})", {own: made}, names)


def _group_norm(groups_of: Callable[[Any, int], int]) -> Writer:
    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        layer: Any = node.layer
        channels = node.shape[0]
        made = f"nn.GroupNorm({groups_of(layer, channels)}, {channels}, eps={layer.epsilon!r})"
        return Written(f"self.{own}({inputs[0]})", {own: made}, _plain_names(node, own))

    return write


def _layer_norm(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    if len(node.shape) == 3 and layer.over == "map":
        return _group_norm(lambda layer, channels: 1)(node, own, inputs)
    return _over_channels(node, own, inputs, f"nn.LayerNorm({node.shape[0]}, eps={layer.epsilon!r})")


def _rms_norm(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return _over_channels(node, own, inputs, f"nn.RMSNorm({node.shape[0]}, eps={layer.epsilon!r})")


def _over_channels(node: Node, own: str, inputs: Sequence[str], made: str) -> Written:
    """A module that normalises the last axis, given the channels there."""
    vector = len(node.shape) == 1
    call = f"self.{own}({inputs[0]})" if vector else f"self.{own}({inputs[0]}.movedim(1, -1)).movedim(-1, 1)"
    return Written(call, {own: made}, _plain_names(node, own))


def _prelu(node: Node, own: str, inputs: Sequence[str]) -> Written:
    made = f"nn.PReLU({node.params['weight'].shape[0] if node.params else 1})"
    return Written(f"self.{own}({inputs[0]})", {own: made}, _plain_names(node, own))


def _positions(node: Node, own: str, inputs: Sequence[str]) -> Written:
    made = f"nn.Parameter(torch.zeros({tuple(node.shape)!r}))"
    return Written(f"{inputs[0]} + self.{own}", {own: made}, {} if node.share else {"weight": own})


def _max_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    x, padding = _even(inputs[0], laid.padding, ', value=float("-inf")')
    if 2 * padding[0] > laid.kernel[0] or 2 * padding[1] > laid.kernel[1]:
        x, padding = _padded(inputs[0], laid.padding, ', value=float("-inf")'), (0, 0)
    return _call(f"F.max_pool2d({x}, {_pair(laid.kernel)}, {_pair(laid.stride)}{_options(padding=_pair(padding))})")


def _avg_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return _call(_mean_of_windows(node, inputs[0], whole=layer.count_include_pad))


def _lp_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return _call(f"({_mean_of_windows(node, f'{inputs[0]}.abs() ** {layer.p!r}', whole=False)}) ** {1 / layer.p!r}")


def _mean_of_windows(node: Node, x: str, *, whole: bool) -> str:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    windows = f"{_pair(laid.kernel)}, {_pair(laid.stride)}"
    mean = f"F.avg_pool2d({_padded(x, laid.padding)}, {windows})"
    if whole or not any(laid.padding):
        return mean
    ones = f"torch.ones({(1, 1, *node.input_shapes[0][1:])!r})"
    return f"{mean} / F.avg_pool2d({_padded(ones, laid.padding)}, {windows})"


def _response_norm(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    if layer.size % 2 == 0:
        raise RunError(f"{node.name}: PyTorch puts windows of an even size elsewhere", "write an odd size")
    return _call(f"F.local_response_norm({inputs[0]}, {layer.size}, {layer.alpha!r}, {layer.beta!r}, {layer.k!r})")


def _merge(operator: str) -> Writer:
    """One input after the other, vectors as 1x1 maps beside maps."""

    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        return _call(f" {operator} ".join(_as_maps(node, inputs)))

    return write


def _choose(function: str) -> Writer:
    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        first, *others = _as_maps(node, inputs)
        for other in others:
            first = f"torch.{function}({first}, {other})"
        return _call(first)

    return write


def _as_maps(node: Node, inputs: Sequence[str]) -> list[str]:
    shapes = node.input_shapes
    return [
        f"{x}[:, :, None, None]" if len(shape) < len(node.shape) else x for x, shape in zip(inputs, shapes, strict=True)
    ]


def _concat(node: Node, own: str, inputs: Sequence[str]) -> Written:
    return _call(f"torch.cat([{', '.join(inputs)}], 1)")


def _matmul(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    left = f"{inputs[0]}.mT" if layer.transpose == "first" else inputs[0]
    right = f"{inputs[1]}.mT" if layer.transpose == "second" else inputs[1]
    return _call(f"{left} @ {right}")


def _slice(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    parts = [
        f"{part.start or ''}:{part.stop or ''}" + (f":{part.step}" if (part.step or 1) != 1 else "")
        for part in layer.slices(node.input_shapes[0])
    ]
    return _call(f"{inputs[0]}[:, {', '.join(parts)}]")


def _crop(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    top, bottom, left, right = layer.cropping
    return _call(_padded(inputs[0], (-top, -bottom, -left, -right)))


def _zero_pad(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    top, bottom, left, right = layer.padding
    channels = "".join(f", {count}" for count in layer.channels) if any(layer.channels) else ""
    return _call(f"F.pad({inputs[0]}, ({left}, {right}, {top}, {bottom}{channels}))")


def _pad(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return _call(_padded(inputs[0], layer.padding, f', mode="{layer.mode}"'))


def _call(text: str) -> Written:
    return Written(text, {}, {})


def _plain_names(node: Node, own: str) -> dict[str, str]:
    """The names of a layer's arrays that PyTorch calls alike."""
    return {part: f"{own}.{part}" for part in node.params}


def _plain(template: str) -> Writer:
    """A call of one input; {x} is that, and fields of the layer stand by their names."""

    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        fields = {name: getattr(node.layer, name) for name in _fields(template)}
        return _call(template.format(x=inputs[0], **fields))

    return write


def _fields(template: str) -> Iterator[str]:
    import string  # of the standard library; only templates are taken apart with it

    for _, name, _, _ in string.Formatter().parse(template):
        if name and name != "x":
            yield name


def _dropout(kind: str) -> Writer:
    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        layer: Any = node.layer
        return Written(f"self.{own}({inputs[0]})", {own: f"nn.{kind}({layer.rate!r})"}, {})

    return write


Writer = Callable[[Node, str, Sequence[str]], Written]
WRITERS: Mapping[str, Writer] = {
    "abs": _plain("{x}.abs()"),
    "adaptive_avg_pool2d": _plain("F.adaptive_avg_pool2d({x}, {output_size})"),
    "add": _merge("+"),
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "channel_max": _plain("{x}.amax(1, keepdim=True)"),
    "channel_mean": _plain("{x}.mean(1, keepdim=True)"),
    "channel_shuffle": _plain("F.channel_shuffle({x}, {groups})"),
    "clip": _plain("{x}.clip({min}, {max})"),
    "concat": _concat,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "crop2d": _crop,
    "dense": _dense,
    "depthwise_conv2d": _convolution,
    "dropout": _dropout("Dropout"),
    "elu": _plain("F.elu({x}, {alpha})"),
    "exp": _plain("{x}.exp()"),
    "flatten": _plain("{x}.flatten(1)"),
    "gelu": _plain('F.gelu({x}, approximate="{approximate}")'),
    "global_avg_pool2d": _plain("{x}.mean((2, 3))"),
    "global_max_pool2d": _plain("{x}.amax((2, 3))"),
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _plain("F.hardsigmoid({x})"),
    "hard_swish": _plain("F.hardswish({x})"),
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("F.leaky_relu({x}, {negative_slope})"),
    "local_response_norm": _response_norm,
    "lp_pool2d": _lp_pool,
    "matmul": _matmul,
    "max_pool2d": _max_pool,
    "maximum": _choose("maximum"),
    "minimum": _choose("minimum"),
    "mish": _plain("F.mish({x})"),
    "multiply": _merge("*"),
    "pad2d": _pad,
    "permute": lambda node, own, inputs: _call(
        f"{inputs[0]}.permute({', '.join(map(str, (0, *(axis + 1 for axis in node.layer.order))))})"  # type: ignore[attr-defined]
    ),
    "pixel_shuffle": _plain("F.pixel_shuffle({x}, {factor})"),
    "positions": _positions,
    "prelu": _prelu,
    "relu": _plain("F.relu({x})"),
    "relu6": _plain("F.relu6({x})"),
    "reshape": lambda node, own, inputs: _call(f"{inputs[0]}.reshape(-1, {', '.join(map(str, node.shape))})"),
    "rms_norm": _rms_norm,
    "selu": _plain("F.selu({x})"),
    "separable_conv2d": _separable,
    "sigmoid": _plain("{x}.sigmoid()"),
    "silu": _plain("F.silu({x})"),
    "slice": _slice,
    "softmax": _plain("{x}.softmax(1)"),
    "softplus": _plain("F.softplus({x})"),
    "spatial_dropout2d": _dropout("Dropout2d"),
    "square": _plain("{x}.square()"),
    "subtract": _merge("-"),
    "tanh": _plain("{x}.tanh()"),
    "upsample2d": _plain('F.interpolate({x}, scale_factor={scale}, mode="{mode}")'),
    "zero_pad2d": _zero_pad,
}
