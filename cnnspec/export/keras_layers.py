"""Every layer in Keras: the layer object or operation that computes it from maps (n, h, w, c), and its arrays there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.export.counted_padding import counted_padding
from cnnspec.export.straight_line import filled, pair
from cnnspec.graph import Node
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

Margins = tuple[int, int, int, int]  # top, bottom, left, right
MATRIX = (2, 3, 1, 0)  # from (filters, channels, rows, columns) to Keras's (rows, columns, channels, filters)
POSITIONS = {0: 3, 1: 1, 2: 2}  # of a map's axes here, channels, rows and columns, in (n, h, w, c)

CLASSES = {
    "Positions": '''\
class Positions(layers.Layer):
    """x + weight, with a number for each place of a map."""

    def build(self, shape):
        self.weight = self.add_weight(shape=shape[1:], initializer="zeros", name="weight")

    def call(self, x):
        return x + self.weight
''',
    "ScaleShift": '''\
class ScaleShift(layers.Layer):
    """scale x + shift for each channel; either may be left out."""

    def __init__(self, scale=True, shift=True, **options):
        super().__init__(**options)
        self.parts = scale, shift

    def build(self, shape):
        scale, shift = self.parts
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale") if scale else 1.0
        self.shift = self.add_weight(shape=shape[-1:], initializer="zeros", name="shift") if shift else 0.0

    def call(self, x):
        return self.scale * x + self.shift
''',
    "local_response_norm": '''\
def local_response_norm(x, size, alpha, beta, k):
    """x / (k + alpha/size sum of x^2 over `size` neighbouring channels)^beta."""
    channels = x.shape[-1]
    squares = ops.pad(x * x, [[0, 0], [0, 0], [0, 0], [(size - 1) // 2, size // 2]])
    total = sum(squares[..., shift : shift + channels] for shift in range(size))
    return x / (k + alpha / size * total) ** beta
''',
}


@dataclass(frozen=True)
class Written:
    """A layer in Keras: a layer object with parameters, if it is one, and what computes the output.

    In `call`, {layer} is the object. `arrays` say for each of its variables which array here it is, and how that is
    laid there.
    """

    call: str
    layer: str = ""
    arrays: Mapping[str, tuple[str, Callable[[Array], Array]]] = field(default_factory=dict)


Writer = Callable[[Node, Sequence[str]], Written]


def as_is(array: Array) -> Array:
    """Return an array that Keras has in the same layout."""
    return array


def _transposed(array: Array) -> Array:
    return array.T


def _axes(*order: int) -> Callable[[Array], Array]:
    return lambda array: array.transpose(order)


def _bias(node: Node, name: str = "bias") -> dict[str, tuple[str, Callable[[Array], Array]]]:
    return {name: ("bias", as_is)} if "bias" in node.keys or "bias" in node.params else {}


def _options(**given: object) -> str:
    """The arguments of a layer that are not its default."""
    usual = {
        "strides": "1",
        "padding": "'valid'",
        "dilation_rate": "1",
        "groups": "1",
        "depth_multiplier": "1",
        "use_bias": "True",
    }
    return "".join(f", {name}={value}" for name, value in given.items() if usual.get(name) != str(value))


def _sides(margins: Margins) -> str:
    top, bottom, left, right = margins
    return f"(({top}, {bottom}), ({left}, {right}))"


def _padded(x: str, margins: Margins, value: str = "") -> str:
    if not any(margins):
        return x
    if value:
        top, bottom, left, right = margins
        sides = f"[[0, 0], [{top}, {bottom}], [{left}, {right}], [0, 0]]"
        return f"ops.pad({x}, {sides}, constant_values={value})"
    return f"layers.ZeroPadding2D({_sides(margins)})({x})"


def _even(x: str, laid: Any) -> tuple[str, str]:
    """The map, and the padding that the layer adds itself: it can, where that is what Keras calls same."""
    same: list[int] = []
    for axis, length in enumerate((laid.height, laid.width)):
        reach = laid.dilation[axis] * (laid.kernel[axis] - 1) + 1
        total = max((-(-length // laid.stride[axis]) - 1) * laid.stride[axis] + reach - length, 0)
        same += [total // 2, total - total // 2]
    if any(laid.padding) and tuple(same) == tuple(laid.padding):
        return x, '"same"'
    return _padded(x, laid.padding), "'valid'"


def _refuse_unless(holds: bool, node: Node, reason: str) -> None:
    if not holds:
        raise RunError(f"{node.name}: Keras has no {reason}", "export --format onnx or jax")


def _convolution(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    _refuse_unless(1 in (max(laid.stride), max(laid.dilation)), node, "convolution with both strides and dilation")
    bias = _bias(node)
    untied = bool(bias) and "bias" in node.params and len(node.params["bias"].shape) == 3
    _refuse_unless(not untied, node, "bias: untied")
    x, padding = _even(inputs[0], laid)
    more = {
        "strides": pair(laid.stride),
        "padding": padding,
        "dilation_rate": pair(laid.dilation),
        "use_bias": bool(bias),
    }
    groups = getattr(layer, "groups", channels)
    if groups == channels > 1 and laid.stride[0] == laid.stride[1]:
        multiplier = node.shape[0] // channels
        made = f"layers.DepthwiseConv2D({pair(laid.kernel)}" + _options(**more, depth_multiplier=multiplier)

        def by_channel(array: Array) -> Array:
            return array.reshape(channels, multiplier, *laid.kernel).transpose(2, 3, 0, 1)

        return Written(f"{{layer}}({x})", made, {"kernel": ("weight", by_channel), **bias})
    made = f"layers.Conv2D({node.shape[0]}, {pair(laid.kernel)}" + _options(**more, groups=groups)
    return Written(f"{{layer}}({x})", made, {"kernel": ("weight", _axes(*MATRIX)), **bias})


def _separable(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    _refuse_unless(laid.stride[0] == laid.stride[1], node, "separable convolution with other strides for rows")
    _refuse_unless(1 in (max(laid.stride), max(laid.dilation)), node, "convolution with both strides and dilation")
    x, padding = _even(inputs[0], laid)
    bias = _bias(node)
    made = f"layers.SeparableConv2D({node.shape[0]}, {pair(laid.kernel)}" + _options(
        strides=pair(laid.stride),
        padding=padding,
        dilation_rate=pair(laid.dilation),
        depth_multiplier=layer.multiplier,
        use_bias=bool(bias),
    )

    def by_channel(array: Array) -> Array:
        return array.reshape(channels, layer.multiplier, *laid.kernel).transpose(2, 3, 0, 1)

    arrays = {"depthwise_kernel": ("depthwise", by_channel), "pointwise_kernel": ("pointwise", _axes(*MATRIX)), **bias}
    return Written(f"{{layer}}({x})", made, arrays)


def _transposed_convolution(node: Node, inputs: Sequence[str]) -> Written:
    """Keras makes all rows that any window reaches, and at least as many as the stride for each of the input's."""
    layer: Any = node.layer
    _refuse_unless(layer.groups == 1, node, "transposed convolution with groups")
    laid, bias, (_, *lengths) = layer.windows(node.input_shapes[0]), _bias(node), node.input_shapes[0]
    _refuse_unless(max(laid.dilation) == 1, node, "transposed convolution with dilation on every backend")
    cut = list(laid.padding)
    for axis in (0, 1):
        made = lengths[axis] * laid.stride[axis] + max(laid.kernel[axis] - laid.stride[axis], 0)
        cut[2 * axis + 1] = made - node.shape[1 + axis] - cut[2 * axis]
    _refuse_unless(min(cut) >= 0, node, "output_padding of this size")
    made_layer = f"layers.Conv2DTranspose({node.shape[0]}, {pair(laid.kernel)}" + _options(
        strides=pair(laid.stride), use_bias=bool(bias)
    )
    call = f"{{layer}}({inputs[0]})"
    if any(cut):
        call = f"layers.Cropping2D({_sides((cut[0], cut[1], cut[2], cut[3]))})({call})"
    return Written(call, made_layer, {"kernel": ("weight", _axes(2, 3, 1, 0)), **bias})


def _dense(node: Node, inputs: Sequence[str]) -> Written:
    bias = _bias(node)
    made = f"layers.Dense({node.shape[0]}" + _options(use_bias=bool(bias))
    return Written(f"{{layer}}({inputs[0]})", made, {"kernel": ("weight", _transposed), **bias})


def _batch_norm(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    made = f"layers.BatchNormalization(momentum={layer.momentum!r}, epsilon={layer.epsilon!r}"
    arrays = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_variance"}
    return Written(f"{{layer}}({inputs[0]})", made, {name: (own, as_is) for name, own in arrays.items()})


def _normalised(groups_of: Callable[[Any, int], int] | None) -> Writer:
    """Over groups of channels; without a number of them, over the channels of each place."""

    def write(node: Node, inputs: Sequence[str]) -> Written:
        layer: Any = node.layer
        if groups_of is None:
            made = f"layers.LayerNormalization(epsilon={layer.epsilon!r}"
        else:
            made = f"layers.GroupNormalization({groups_of(layer, node.shape[0])}, epsilon={layer.epsilon!r}"
        return Written(f"{{layer}}({inputs[0]})", made, {"gamma": ("weight", as_is), "beta": ("bias", as_is)})

    return write


def _layer_norm(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    whole = layer.over == "map" and len(node.shape) == 3
    return _normalised((lambda layer, channels: 1) if whole else None)(node, inputs)


def _rms_norm(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    made = f"layers.RMSNormalization(epsilon={layer.epsilon!r}"
    return Written(f"{{layer}}({inputs[0]})", made, {"scale": ("weight", as_is)})


def _prelu(node: Node, inputs: Sequence[str]) -> Written:
    if len(node.shape) == 1:
        shape: Shape = node.shape
        made = "layers.PReLU("
    else:
        shape, made = (1, 1, node.shape[0]), "layers.PReLU(shared_axes=[1, 2]"

    def for_channels(array: Array) -> Array:
        return np.broadcast_to(array, node.shape[:1]).reshape(shape)

    return Written(f"{{layer}}({inputs[0]})", made, {"alpha": ("weight", for_channels)})


def _positions(node: Node, inputs: Sequence[str]) -> Written:
    laid = _axes(1, 2, 0) if len(node.shape) == 3 else as_is
    return Written(f"{{layer}}({inputs[0]})", "Positions(", {"weight": ("weight", laid)})


def _scale_shift(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    given = {name: getattr(layer, name) for name in ("scale", "shift") if getattr(layer, name) is not None}
    if layer.learned:
        left_out = [f"{name}=False" for name in ("scale", "shift") if name not in given]
        arrays = {name: (name, as_is) for name in given}
        return Written(f"{{layer}}({inputs[0]})", f"ScaleShift({', '.join(left_out)}", arrays)
    text = inputs[0]
    for operator, name in (("*", "scale"), ("+", "shift")):
        numbers = [float(number) for number in given.get(name, ())]
        if numbers:
            text += f" {operator} {numbers[0] if len(numbers) == 1 else f'ops.array({numbers})'}"
    return Written(text)


def _max_pool(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    x, padding = _even(inputs[0], laid)
    if padding == "'valid'":
        x = _padded(inputs[0], laid.padding, '-float("inf")')
    return Written(f"layers.MaxPooling2D({pair(laid.kernel)}{_apart(laid)}{_options(padding=padding)})({x})")


def _apart(laid: Any) -> str:
    """The strides of windows, where they are not as long as these."""
    return "" if tuple(laid.stride) == tuple(laid.kernel) else f", strides={pair(laid.stride)}"


def _avg_pool(node: Node, inputs: Sequence[str]) -> Written:
    return Written(_mean_of_windows(node, inputs[0], counted_padding(node)))


def _mean_of_windows(node: Node, x: str, counted: Margins) -> str:
    """The mean over what is in the map or in the counted padding: that over all, by that of ones there."""
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    pool = f"layers.AveragePooling2D({pair(laid.kernel)}{_apart(laid)})"
    mean = f"{pool}({_padded(x, laid.padding)})"
    if counted == laid.padding:
        return mean
    (_, h, w), (top, bottom, left, right) = node.input_shapes[0], counted
    beyond = [whole - own for whole, own in zip(laid.padding, counted, strict=True)]
    ones = f"ops.ones((1, {h + top + bottom}, {w + left + right}, 1))"
    return f"{mean} / {pool}({_padded(ones, (beyond[0], beyond[1], beyond[2], beyond[3]))})"


def _lp_pool(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    mean = _mean_of_windows(node, f"ops.abs({inputs[0]}) ** {layer.p!r}", (0, 0, 0, 0))
    return Written(f"({mean}) ** {1 / layer.p!r}")


def _adaptive(node: Node, inputs: Sequence[str]) -> Written:
    (_, h, w), (_, rows, columns) = node.input_shapes[0], node.shape
    _refuse_unless(h % rows == 0 and w % columns == 0, node, "adaptive pooling into bins of several sizes")
    return Written(f"layers.AveragePooling2D({pair((h // rows, w // columns))})({inputs[0]})")


def _merge(operator: str) -> Writer:
    def write(node: Node, inputs: Sequence[str]) -> Written:
        return Written(f" {operator} ".join(_as_maps(node, inputs)))

    return write


def _choose(function: str) -> Writer:
    def write(node: Node, inputs: Sequence[str]) -> Written:
        first, *others = _as_maps(node, inputs)
        for other in others:
            first = f"ops.{function}({first}, {other})"
        return Written(first)

    return write


def _as_maps(node: Node, inputs: Sequence[str]) -> list[str]:
    """Vectors as maps of one pixel, beside maps."""
    shapes = zip(inputs, node.input_shapes, strict=True)
    return [f"layers.Reshape((1, 1, {shape[0]}))({x})" if len(shape) < len(node.shape) else x for x, shape in shapes]


def _channels_first(x: str, shape: Sequence[int]) -> str:
    """A map whose numbers lie in the order in which they lie here."""
    if len(shape) != 3 or shape[0] == 1 or shape[1] == shape[2] == 1:
        return x
    return f"layers.Permute((3, 1, 2))({x})"


def _flatten(node: Node, inputs: Sequence[str]) -> Written:
    return Written(f"layers.Flatten()({_channels_first(inputs[0], node.input_shapes[0])})")


def _reshape(node: Node, inputs: Sequence[str]) -> Written:
    x, shape = _channels_first(inputs[0], node.input_shapes[0]), node.shape
    if len(shape) != 3:
        return Written(f"layers.Reshape({tuple(shape)!r})({x})")
    if shape[0] == 1 or shape[1] == shape[2] == 1:
        return Written(f"layers.Reshape({(*shape[1:], shape[0])!r})({x})")
    return Written(f"layers.Permute((2, 3, 1))(layers.Reshape({tuple(shape)!r})({x}))")


def _permute(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    first, *others = (POSITIONS[axis] for axis in layer.order)
    return Written(f"layers.Permute({(*others, first)!r})({inputs[0]})")


def _concat(node: Node, inputs: Sequence[str]) -> Written:
    return Written(f"layers.Concatenate()([{', '.join(inputs)}])")


def _slice(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    first, *others = (
        f"{part.start or ''}:{part.stop or ''}" + (f":{part.step}" if (part.step or 1) != 1 else "")
        for part in layer.slices(node.input_shapes[0])
    )
    return Written(f"{inputs[0]}[:, {', '.join((*others, first))}]")


def _crop(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return Written(f"layers.Cropping2D({_sides(layer.cropping)})({inputs[0]})")


def _zero_pad(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    x = _padded(inputs[0], layer.padding)
    if any(layer.channels):
        x = f"ops.pad({x}, [[0, 0], [0, 0], [0, 0], {list(layer.channels)}])"
    return Written(x)


def _pad(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    _refuse_unless(layer.mode == "reflect", node, f"padding of mode {layer.mode}")
    top, bottom, left, right = layer.padding
    return Written(f'ops.pad({inputs[0]}, [[0, 0], [{top}, {bottom}], [{left}, {right}], [0, 0]], mode="reflect")')


def _pixel_shuffle(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    (_, h, w), (c, rows, columns), r = node.input_shapes[0], node.shape, layer.factor
    apart = f"ops.reshape({inputs[0]}, (-1, {h}, {w}, {c}, {r}, {r}))"
    return Written(f"ops.reshape(ops.transpose({apart}, (0, 1, 4, 2, 5, 3)), (-1, {rows}, {columns}, {c}))")


def _channel_shuffle(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    (c, h, w), groups = node.shape, layer.groups
    apart = f"ops.reshape({inputs[0]}, (-1, {h}, {w}, {groups}, {c // groups}))"
    return Written(f"ops.reshape(ops.swapaxes({apart}, 3, 4), (-1, {h}, {w}, {c}))")


def _upsample(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    mode = "" if layer.mode == "nearest" else f', interpolation="{layer.mode}"'
    return Written(f"layers.UpSampling2D({tuple(layer.scale)!r}{mode})({inputs[0]})")


def _gelu(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return Written(f"ops.gelu({inputs[0]}, approximate={layer.approximate != 'none'})")


def _clip(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    found = inputs[0]
    for function, bound in (("maximum", layer.min), ("minimum", layer.max)):
        found = found if bound is None else f"ops.{function}({found}, {float(bound)!r})"
    return Written(found)


def _drop_path(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return Written(f"layers.Dropout({layer.rate}, noise_shape={(None, *(1,) * len(node.shape))!r})({inputs[0]})")


def _noise(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    _refuse_unless(layer.std <= 1, node, f"noise of a deviation of {layer.std}, which is above 1")
    return Written(f"layers.GaussianNoise({layer.std})({inputs[0]})")


def _plain(template: str) -> Writer:
    """A call of one input, which is {x} in the template; fields of the layer stand by their names."""
    return lambda node, inputs: Written(filled(template, inputs[0], node.layer))


WRITERS: Mapping[str, Writer] = {
    "abs": _plain("ops.abs({x})"),
    "adaptive_avg_pool2d": _adaptive,
    "add": _merge("+"),
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "channel_max": _plain("ops.max({x}, -1, keepdims=True)"),
    "channel_mean": _plain("ops.mean({x}, -1, keepdims=True)"),
    "channel_shuffle": _channel_shuffle,
    "clip": _clip,
    "concat": _concat,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "crop2d": _crop,
    "dense": _dense,
    "depthwise_conv2d": _convolution,
    "drop_path": _drop_path,
    "dropout": _plain("layers.Dropout({rate})({x})"),
    "elu": _plain("ops.elu({x}, {alpha})"),
    "exp": _plain("ops.exp({x})"),
    "flatten": _flatten,
    "gelu": _gelu,
    "global_avg_pool2d": _plain("layers.GlobalAveragePooling2D()({x})"),
    "global_max_pool2d": _plain("layers.GlobalMaxPooling2D()({x})"),
    "group_norm": _normalised(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _plain("ops.hard_sigmoid({x})"),
    "hard_swish": _plain("ops.hard_silu({x})"),
    "instance_norm": _normalised(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("ops.leaky_relu({x}, {negative_slope})"),
    "local_response_norm": _plain("local_response_norm({x}, {size}, {alpha}, {beta}, {k})"),
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "maximum": _choose("maximum"),
    "minimum": _choose("minimum"),
    "mish": _plain("{x} * ops.tanh(ops.softplus({x}))"),
    "multiply": _merge("*"),
    "noise": _noise,
    "pad2d": _pad,
    "permute": _permute,
    "pixel_shuffle": _pixel_shuffle,
    "positions": _positions,
    "prelu": _prelu,
    "relu": _plain("ops.relu({x})"),
    "relu6": _plain("ops.relu6({x})"),
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
    "selu": _plain("ops.selu({x})"),
    "separable_conv2d": _separable,
    "sigmoid": _plain("ops.sigmoid({x})"),
    "silu": _plain("ops.silu({x})"),
    "slice": _slice,
    "softmax": _plain("ops.softmax({x}, -1)"),
    "softplus": _plain("ops.softplus({x})"),
    "spatial_dropout2d": _plain("layers.SpatialDropout2D({rate})({x})"),
    "square": _plain("ops.square({x})"),
    "subtract": _merge("-"),
    "tanh": _plain("ops.tanh({x})"),
    "upsample2d": _upsample,
    "zero_pad2d": _zero_pad,
}
