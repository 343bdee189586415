"""The counterpart of every layer in PyTorch: its modules, the call that computes it, PyTorch's names of its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.export.counted_padding import counted_padding, counting
from cnnspec.export.straight_line import filled, listed, pair
from cnnspec.graph import Node

Margins = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Written:
    """A layer in PyTorch: its modules and parameters by attribute, and the call that computes it from its inputs.

    `names` are the names of the layer's arrays in the state of the whole module.
    """

    call: str
    modules: Mapping[str, str]
    names: Mapping[str, str]


def padded(x: str, margins: Margins, value: str = "") -> str:
    """Return the call that pads a map, or crops it where margins are negative."""
    top, bottom, left, right = margins
    return f"F.pad({x}, ({left}, {right}, {top}, {bottom}){value})" if any(margins) else x


def _symmetric_padding(x: str, margins: Margins, value: str = "") -> tuple[str, tuple[int, int]]:
    """Return the map, and the module's own padding if opposite sides are equal; else the padded map and no padding."""
    top, bottom, left, right = margins
    return (x, (top, left)) if (top, left) == (bottom, right) else (padded(x, margins, value), (0, 0))


def _options(**given: object) -> str:
    """Return the arguments of a module that differ from PyTorch's defaults."""
    usual = {"stride": "1", "padding": "0", "dilation": "1", "groups": "1", "output_padding": "0", "bias": "True"}
    return "".join(f", {name}={value}" for name, value in given.items() if usual.get(name) != str(value))


def _convolution(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    x, padding = _symmetric_padding(inputs[0], windows.padding)
    filters, kernel = node.shape[0], pair(windows.kernel)
    bias = "bias" in node.params
    if bias and len(node.params["bias"].shape) == 3:
        raise RunError(f"{node.name}: no counterpart of bias: untied in PyTorch is known here", "write bias: channel")
    made = f"nn.Conv2d({channels}, {filters}, {kernel}" + _options(
        stride=pair(windows.stride),
        padding=pair(padding),
        dilation=pair(windows.dilation),
        groups=getattr(layer, "groups", channels),
        bias=bias,
    )
    return Written(f"self.{own}({x})", {own: made + ")"}, _plain_names(node, own))


def _separable(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    x, padding = _symmetric_padding(inputs[0], windows.padding)
    middle = channels * layer.multiplier
    first = f"nn.Conv2d({channels}, {middle}, {pair(windows.kernel)}" + _options(
        stride=pair(windows.stride), padding=pair(padding), dilation=pair(windows.dilation), groups=channels, bias=False
    )
    second = f"nn.Conv2d({middle}, {node.shape[0]}, 1" + _options(bias="bias" in node.keys)
    names = {"depthwise": f"{own}.0.weight", "pointwise": f"{own}.1.weight"}
    names |= {"bias": f"{own}.1.bias"} if "bias" in node.params else {}
    return Written(f"self.{own}({x})", {own: f"nn.Sequential({first}), {second}))"}, names)


def _transposed(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    top, bottom, left, right = windows.padding
    made = f"nn.ConvTranspose2d({channels}, {node.shape[0]}, {pair(windows.kernel)}" + _options(
        stride=pair(windows.stride),
        output_padding=pair(layer.output_padding),
        groups=layer.groups,
        bias="bias" in node.keys,
        dilation=pair(windows.dilation),
    )
    call = f"self.{own}({inputs[0]})"
    return Written(padded(call, (-top, -bottom, -left, -right)), {own: made + ")"}, _plain_names(node, own))


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
    """Return a layer whose module normalises the last axis, to which the channels are moved."""
    vector = len(node.shape) == 1
    call = f"self.{own}({inputs[0]})" if vector else f"self.{own}({inputs[0]}.movedim(1, -1)).movedim(-1, 1)"
    return Written(call, {own: made}, _plain_names(node, own))


def _prelu(node: Node, own: str, inputs: Sequence[str]) -> Written:
    made = f"nn.PReLU({node.params['weight'].shape[0] if node.params else 1})"
    return Written(f"self.{own}({inputs[0]})", {own: made}, _plain_names(node, own))


def _positions(node: Node, own: str, inputs: Sequence[str]) -> Written:
    made = f"nn.Parameter(torch.zeros({tuple(node.shape)!r}))"
    return Written(f"{inputs[0]} + self.{own}", {own: made}, {"weight": own})


def _scale_shift(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    axes = "(-1, 1, 1)" if len(node.shape) == 3 else "(-1,)"
    text, learned = inputs[0], []
    for operator, name in (("*", "scale"), ("+", "shift")):
        numbers = getattr(layer, name)
        if numbers is None:
            continue
        if layer.learned:
            learned.append(name)
            text += f' {operator} self.{own}["{name}"].reshape{axes}'
        elif len(numbers) == 1:
            text += f" {operator} {float(numbers[0])!r}"
        else:
            text += f" {operator} torch.tensor({listed(numbers)}).reshape{axes}"
    made = ", ".join(f'"{name}": torch.zeros({node.shape[0]})' for name in learned)
    modules = {own: f"nn.ParameterDict({{{made}}})"} if learned else {}
    return Written(text, modules, {name: f"{own}.{name}" for name in learned})


def _max_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    x, padding = _symmetric_padding(inputs[0], windows.padding, ', value=float("-inf")')
    if 2 * padding[0] > windows.kernel[0] or 2 * padding[1] > windows.kernel[1]:
        x, padding = padded(inputs[0], windows.padding, ', value=float("-inf")'), (0, 0)
    return _call(f"F.max_pool2d({x}, {pair(windows.kernel)}, {pair(windows.stride)}{_options(padding=pair(padding))})")


def _avg_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    return _call(_mean_of_windows(node, inputs[0], counted_padding(node)))


def _lp_pool(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    mean = _mean_of_windows(node, f"{inputs[0]}.abs() ** {layer.p!r}", (0, 0, 0, 0))
    return _call(f"({mean}) ** {1 / layer.p!r}")


def _mean_of_windows(node: Node, x: str, counted: Margins) -> str:
    """Write a mean over the map and its counted padding: a mean over all padding, divided by the counted share."""
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    windows = f"{pair(laid.kernel)}, {pair(laid.stride)}"
    mean = f"F.avg_pool2d({padded(x, laid.padding)}, {windows})"
    if counted == laid.padding:
        return mean
    (rows, columns), margin = counting(node.input_shapes[0], laid.padding, counted)
    return f"{mean} / F.avg_pool2d({padded(f'torch.ones((1, 1, {rows}, {columns}))', margin)}, {windows})"


def _response_norm(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    if layer.size % 2 == 0:
        raise RunError(f"{node.name}: PyTorch puts windows of an even size elsewhere", "write an odd size")
    return _call(f"F.local_response_norm({inputs[0]}, {layer.size}, {layer.alpha!r}, {layer.beta!r}, {layer.k!r})")


def _merge(operator: str) -> Writer:
    """Return a writer for an operator applied to all inputs in turn; vectors become 1x1 maps beside maps."""

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


def _attention(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    c, h, w = node.shape
    rows, columns = layer.window or (h, w)
    down, across = h // rows, w // columns
    pixels, turned, reshaped = f"{inputs[0]}.flatten(2).mT", ".mT", f".reshape(-1, {c}, {h}, {w})"
    if layer.window:
        cut = f"{inputs[0]}.reshape(-1, {c}, {down}, {rows}, {across}, {columns})"
        pixels = f"{cut}.permute(0, 2, 4, 3, 5, 1).reshape(-1, {rows * columns}, {c})"
        turned = f".reshape(-1, {down}, {across}, {rows}, {columns}, {c}).permute(0, 5, 1, 3, 2, 4)"
    made = f"nn.MultiheadAttention({c}, {layer.heads}" + _options(bias=layer.bias == "channel") + ", batch_first=True)"
    names = {"in_weight": "in_proj_weight", "in_bias": "in_proj_bias"}
    names |= {"out_weight": "out_proj.weight", "out_bias": "out_proj.bias"}
    call = f"self.{own}(*({pixels},) * 3, need_weights=False)[0]{turned}{reshaped}"
    return Written(call, {own: made}, {part: f"{own}.{names[part]}" for part in node.params})


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
    return _call(padded(inputs[0], (-top, -bottom, -left, -right)))


def _zero_pad(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    top, bottom, left, right = layer.padding
    channels = "".join(f", {count}" for count in layer.channels) if any(layer.channels) else ""
    return _call(f"F.pad({inputs[0]}, ({left}, {right}, {top}, {bottom}{channels}))")


def _pad(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return _call(padded(inputs[0], layer.padding, f', mode="{layer.mode}"'))


def _call(text: str) -> Written:
    return Written(text, {}, {})


def _plain_names(node: Node, own: str) -> dict[str, str]:
    """Return the names of a layer's arrays that are the same in PyTorch."""
    return {part: f"{own}.{part}" for part in node.params}


def _plain(template: str) -> Writer:
    """Return a writer for a call with one input, which is {x} in the template; other names are the layer's fields."""
    return lambda node, own, inputs: _call(filled(template, inputs[0], node.layer))


def _dropout(kind: str) -> Writer:
    def write(node: Node, own: str, inputs: Sequence[str]) -> Written:
        layer: Any = node.layer
        return Written(f"self.{own}({inputs[0]})", {own: f"nn.{kind}({layer.rate!r})"}, {})

    return write


def _drop_path(node: Node, own: str, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    ones = f"{inputs[0]}.new_ones({', '.join([f'len({inputs[0]})', *('1' for _ in node.shape)])})"
    return _call(f"{inputs[0]} * F.dropout({ones}, {layer.rate!r}, self.training)")


def _reparameterize(node: Node, own: str, inputs: Sequence[str]) -> Written:
    mean, log_variance = inputs
    drawn = f"{mean} + torch.exp({log_variance} / 2) * torch.randn_like({mean})"
    return _call(f"({drawn} if self.training else {mean})")


Writer = Callable[[Node, str, Sequence[str]], Written]
WRITERS: Mapping[str, Writer] = {
    "abs": _plain("{x}.abs()"),
    "adaptive_avg_pool2d": _plain("F.adaptive_avg_pool2d({x}, {output_size})"),
    "add": _merge("+"),
    "attention": _attention,
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
    "drop_path": _drop_path,
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
    "noise": _plain("({x} + {std} * torch.randn_like({x}) if self.training else {x})"),
    "pad2d": _pad,
    "permute": lambda node, own, inputs: _call(
        f"{inputs[0]}.permute({', '.join(map(str, (0, *(axis + 1 for axis in node.layer.order))))})"  # type: ignore[attr-defined]
    ),
    "pixel_shuffle": _plain("F.pixel_shuffle({x}, {factor})"),
    "positions": _positions,
    "prelu": _prelu,
    "relu": _plain("F.relu({x})"),
    "relu6": _plain("F.relu6({x})"),
    "reparameterize": _reparameterize,
    "reshape": lambda node, own, inputs: _call(f"{inputs[0]}.reshape(-1, {', '.join(map(str, node.shape))})"),
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
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
