"""Convolutions and pooling in Keras, and the form in which every layer is written there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.export.counted_padding import counted_padding, counting
from cnnspec.export.straight_line import pair
from cnnspec.graph import Node
from cnnspec.kernels.step import Array

Margins = tuple[int, int, int, int]  # top, bottom, left, right
MATRIX = (2, 3, 1, 0)  # from (filters, channels, rows, columns) to Keras's (rows, columns, channels, filters)


@dataclass(frozen=True)
class Written:
    """A layer in Keras: the constructor of a layer object, if it has parameters, and the call that computes the output.

    In `call`, {layer} is the object. `arrays` map each of its variables to one of this package's arrays, and to the
    function that brings that into Keras's layout. `own` map arrays that tied layers do not share to variables of a
    layer of their own.
    """

    call: str
    layer: str = ""
    arrays: Mapping[str, tuple[str, Callable[[Array], Array]]] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)


Writer = Callable[[Node, Sequence[str]], Written]


def as_is(array: Array) -> Array:
    """Return an array unchanged, because Keras uses the same layout."""
    return array


def axes(*order: int) -> Callable[[Array], Array]:
    """Return a function that transposes an array to this order of axes."""
    return lambda array: array.transpose(order)


def bias_of(node: Node, name: str = "bias") -> dict[str, tuple[str, Callable[[Array], Array]]]:
    """Return the name of a layer's bias in Keras; empty for a layer without one."""
    return {name: ("bias", as_is)} if "bias" in node.keys or "bias" in node.params else {}


def options(**given: object) -> str:
    """Return the arguments of a layer that differ from Keras's defaults."""
    usual = {
        "strides": "1",
        "padding": "'valid'",
        "dilation_rate": "1",
        "groups": "1",
        "depth_multiplier": "1",
        "use_bias": "True",
    }
    return "".join(f", {name}={value}" for name, value in given.items() if usual.get(name) != str(value))


def sides(margins: Margins) -> str:
    """Return margins in the form that Keras takes."""
    top, bottom, left, right = margins
    return f"(({top}, {bottom}), ({left}, {right}))"


def padded(x: str, margins: Margins, value: str = "") -> str:
    """Return the call that adds margins to a map, filled with 0 unless a value is given."""
    if not any(margins):
        return x
    if value:
        top, bottom, left, right = margins
        around = f"[[0, 0], [{top}, {bottom}], [{left}, {right}], [0, 0]]"
        return f"ops.pad({x}, {around}, constant_values={value})"
    return f"layers.ZeroPadding2D({sides(margins)})({x})"


def _same_padding(x: str, laid: Any) -> tuple[str, str]:
    """Return the map, and the layer's own padding if it equals Keras's `same`; else the padded map and `valid`."""
    same: list[int] = []
    for axis, length in enumerate((laid.height, laid.width)):
        reach = laid.dilation[axis] * (laid.kernel[axis] - 1) + 1
        total = max((-(-length // laid.stride[axis]) - 1) * laid.stride[axis] + reach - length, 0)
        same += [total // 2, total - total // 2]
    if any(laid.padding) and tuple(same) == tuple(laid.padding):
        return x, '"same"'
    return padded(x, laid.padding), "'valid'"


def refuse_unless(holds: bool, node: Node, reason: str) -> None:
    """Raise RunError with the feature that Keras lacks, unless something holds."""
    if not holds:
        raise RunError(f"{node.name}: Keras has no {reason}", "export --format onnx or jax")


def _convolution(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    refuse_unless(1 in (max(windows.stride), max(windows.dilation)), node, "convolution with both strides and dilation")
    bias = bias_of(node)
    untied = bool(bias) and "bias" in node.params and len(node.params["bias"].shape) == 3
    refuse_unless(not untied, node, "bias: untied")
    x, padding = _same_padding(inputs[0], windows)
    more = {
        "strides": pair(windows.stride),
        "padding": padding,
        "dilation_rate": pair(windows.dilation),
        "use_bias": bool(bias),
    }
    groups = getattr(layer, "groups", channels)
    if groups == channels > 1 and windows.stride[0] == windows.stride[1]:
        multiplier = node.shape[0] // channels
        made = f"layers.DepthwiseConv2D({pair(windows.kernel)}" + options(**more, depth_multiplier=multiplier)

        def by_channel(array: Array) -> Array:
            return array.reshape(channels, multiplier, *windows.kernel).transpose(2, 3, 0, 1)

        return Written(f"{{layer}}({x})", made, {"kernel": ("weight", by_channel), **bias})
    made = f"layers.Conv2D({node.shape[0]}, {pair(windows.kernel)}" + options(**more, groups=groups)
    return Written(f"{{layer}}({x})", made, {"kernel": ("weight", axes(*MATRIX)), **bias})


def _separable(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    refuse_unless(windows.stride[0] == windows.stride[1], node, "separable convolution with other strides for rows")
    refuse_unless(1 in (max(windows.stride), max(windows.dilation)), node, "convolution with both strides and dilation")
    x, padding = _same_padding(inputs[0], windows)
    bias = bias_of(node)
    made = f"layers.SeparableConv2D({node.shape[0]}, {pair(windows.kernel)}" + options(
        strides=pair(windows.stride),
        padding=padding,
        dilation_rate=pair(windows.dilation),
        depth_multiplier=layer.multiplier,
        use_bias=bool(bias),
    )

    def by_channel(array: Array) -> Array:
        return array.reshape(channels, layer.multiplier, *windows.kernel).transpose(2, 3, 0, 1)

    arrays = {"depthwise_kernel": ("depthwise", by_channel), "pointwise_kernel": ("pointwise", axes(*MATRIX)), **bias}
    return Written(f"{{layer}}({x})", made, arrays)


def _transposed_convolution(node: Node, inputs: Sequence[str]) -> Written:
    """Write a transposed convolution; Keras computes every row that a window reaches, so the rest is cut off."""
    layer: Any = node.layer
    refuse_unless(layer.groups == 1, node, "transposed convolution with groups")
    windows, bias, (_, *lengths) = layer.windows(node.input_shapes[0]), bias_of(node), node.input_shapes[0]
    refuse_unless(max(windows.dilation) == 1, node, "transposed convolution with dilation on every backend")
    cut = list(windows.padding)
    for axis in (0, 1):
        made = lengths[axis] * windows.stride[axis] + max(windows.kernel[axis] - windows.stride[axis], 0)
        cut[2 * axis + 1] = made - node.shape[1 + axis] - cut[2 * axis]
    refuse_unless(min(cut) >= 0, node, "output_padding of this size")
    made_layer = f"layers.Conv2DTranspose({node.shape[0]}, {pair(windows.kernel)}" + options(
        strides=pair(windows.stride), use_bias=bool(bias)
    )
    call = f"{{layer}}({inputs[0]})"
    if any(cut):
        call = f"layers.Cropping2D({sides((cut[0], cut[1], cut[2], cut[3]))})({call})"
    return Written(call, made_layer, {"kernel": ("weight", axes(2, 3, 1, 0)), **bias})


def _max_pool(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    x, padding = _same_padding(inputs[0], windows)
    if padding == "'valid'":
        x = padded(inputs[0], windows.padding, '-float("inf")')
    return Written(
        f"layers.MaxPooling2D({pair(windows.kernel)}{_strides_argument(windows)}{options(padding=padding)})({x})"
    )


def _strides_argument(windows: Any) -> str:
    """Return the strides of windows as an argument; empty if they equal the window's size."""
    return "" if tuple(windows.stride) == tuple(windows.kernel) else f", strides={pair(windows.stride)}"


def _avg_pool(node: Node, inputs: Sequence[str]) -> Written:
    return Written(_mean_of_windows(node, inputs[0], counted_padding(node)))


def _mean_of_windows(node: Node, x: str, counted: Margins) -> str:
    """Write a mean over the map and its counted padding: a mean over all padding, divided by the counted share."""
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    pool = f"layers.AveragePooling2D({pair(windows.kernel)}{_strides_argument(windows)})"
    mean = f"{pool}({padded(x, windows.padding)})"
    if counted == windows.padding:
        return mean
    (rows, columns), margin = counting(node.input_shapes[0], windows.padding, counted)
    return f"{mean} / {pool}({padded(f'ops.ones((1, {rows}, {columns}, 1))', margin)})"


def _lp_pool(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    mean = _mean_of_windows(node, f"ops.abs({inputs[0]}) ** {layer.p!r}", (0, 0, 0, 0))
    return Written(f"({mean}) ** {1 / layer.p!r}")


def _adaptive(node: Node, inputs: Sequence[str]) -> Written:
    (_, h, w), (_, rows, columns) = node.input_shapes[0], node.shape
    refuse_unless(h % rows == 0 and w % columns == 0, node, "adaptive pooling into bins of several sizes")
    return Written(f"layers.AveragePooling2D({pair((h // rows, w // columns))})({inputs[0]})")


WRITERS: Mapping[str, Writer] = {
    "adaptive_avg_pool2d": _adaptive,
    "avg_pool2d": _avg_pool,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "depthwise_conv2d": _convolution,
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "separable_conv2d": _separable,
}
