"""The counterpart of every layer in Keras, which computes on maps (n, h, w, c), and its arrays there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.export import keras_windows
from cnnspec.export.keras_windows import Writer, Written, as_is, axes, bias_of, options, padded, refuse_unless, sides
from cnnspec.export.straight_line import filled, taken
from cnnspec.graph import Node
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

OWN = "_statistics"  # behind the name of a layer, that of the layer with what it does not share
POSITIONS = {0: 3, 1: 1, 2: 2}  # where a map's channels, rows and columns are in (n, h, w, c)

CLASSES = {
    "Positions": '''\
class Positions(layers.Layer):
    """x + weight, with a number for each place of a map."""

    def build(self, shape):
        self.weight = self.add_weight(shape=shape[1:], initializer="zeros", name="weight")

    def call(self, x):
        return x + self.weight
''',
    "Reparameterize": '''\
class Reparameterize(layers.Layer):
    """mean + exp(log_variance / 2) noise in training, the mean at inference."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        mean, log_variance = inputs
        if not training:
            return mean
        return mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean), seed=self.seed)
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


def _dense(node: Node, inputs: Sequence[str]) -> Written:
    bias = bias_of(node)
    made = f"layers.Dense({node.shape[0]}" + options(use_bias=bool(bias))
    return Written(f"{{layer}}({inputs[0]})", made, {"kernel": ("weight", axes(1, 0)), **bias})


def _batch_norm(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    made = f"layers.BatchNormalization(momentum={layer.momentum!r}, epsilon={layer.epsilon!r}"
    arrays = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_variance"}
    return Written(f"{{layer}}({inputs[0]})", made, {name: (own, as_is) for name, own in arrays.items()})


def tied_batch_norm(node: Node, inputs: Sequence[str]) -> Written:
    """Write a batch norm with tied weights: its statistics are a layer of its own, its scale and shift a shared one."""
    layer: Any = node.layer
    fields = f"momentum={layer.momentum!r}, epsilon={layer.epsilon!r}, center=False, scale=False"
    call = f'{{layer}}(layers.BatchNormalization({fields}, name="{node.name}{OWN}")({inputs[0]}))'
    arrays = {"scale": ("weight", as_is), "shift": ("bias", as_is)}
    return Written(call, "ScaleShift(", arrays, {name: f"moving_{name[8:]}" for name in node.state})


def _attention(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    c, h, w = node.shape
    heads, (rows, columns) = layer.heads, layer.window or (h, w)
    d, (down, across) = c // heads, (h // rows, w // columns)

    def part_of(number: int) -> Callable[[Array], Array]:
        def laid(array: Array) -> Array:
            own = array[number * c : (number + 1) * c].reshape(heads, d, *array.shape[1:])
            return own.transpose(2, 0, 1) if own.ndim == 3 else own

        return laid

    arrays = {}
    for variable, name in (("kernel", "weight"), ("bias", "bias")):
        if f"in_{name}" in node.params:
            for number, part in enumerate(("query", "key", "value")):
                arrays[f"{part}/{variable}"] = f"in_{name}", part_of(number)
            turned = (lambda array: array.T.reshape(heads, d, c)) if name == "weight" else as_is
            arrays[f"attention_output/{variable}"] = f"out_{name}", turned
    made = f"layers.MultiHeadAttention({heads}, {d}" + options(use_bias=layer.bias == "channel")
    x = inputs[0]
    if not layer.window:
        return Written(f"{{layer}}({x}, {x})", made, arrays)
    cut = f"ops.transpose(ops.reshape({x}, (-1, {down}, {rows}, {across}, {columns}, {c})), (0, 1, 3, 2, 4, 5))"
    windows = f"ops.reshape({cut}, (-1, {rows}, {columns}, {c}))"
    mixed = f"ops.reshape({{layer}}(*({windows},) * 2), (-1, {down}, {across}, {rows}, {columns}, {c}))"
    return Written(f"ops.reshape(ops.transpose({mixed}, (0, 1, 3, 2, 4, 5)), (-1, {h}, {w}, {c}))", made, arrays)


def _matmul(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    left = "nkhc" if layer.transpose == "first" else "nhkc"
    right = "nwkc" if layer.transpose == "second" else "nkwc"
    return Written(f'ops.einsum("{left},{right}->nhwc", {", ".join(inputs)})')


def _normalised(groups_of: Callable[[Any, int], int] | None) -> Writer:
    """Return a writer for normalisation over groups of channels, or, without groups, over each pixel's channels."""

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
    over_map = layer.over == "map" and len(node.shape) == 3
    return _normalised((lambda layer, channels: 1) if over_map else None)(node, inputs)


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
    order = axes(1, 2, 0) if len(node.shape) == 3 else as_is
    return Written(f"{{layer}}({inputs[0]})", "Positions(", {"weight": ("weight", order)})


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
    """Return the inputs with vectors as maps of one pixel, where the output is a map."""
    shapes = zip(inputs, node.input_shapes, strict=True)
    return [f"layers.Reshape((1, 1, {shape[0]}))({x})" if len(shape) < len(node.shape) else x for x, shape in shapes]


def _channels_first(x: str, shape: Sequence[int]) -> str:
    """Return an expression for a map whose numbers are reordered channels first."""
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
    return Written(f"layers.Cropping2D({sides(layer.cropping)})({inputs[0]})")


def _zero_pad(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    x = padded(inputs[0], layer.padding)
    if any(layer.channels):
        x = f"ops.pad({x}, [[0, 0], [0, 0], [0, 0], {list(layer.channels)}])"
    return Written(x)


def _pad(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    refuse_unless(layer.mode == "reflect", node, f"padding of mode {layer.mode}")
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
    expression = inputs[0]
    for function, bound in (("maximum", layer.min), ("minimum", layer.max)):
        expression = expression if bound is None else f"ops.{function}({expression}, {float(bound)!r})"
    return Written(expression)


def _drop_path(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    return Written(f"layers.Dropout({layer.rate}, noise_shape={(None, *(1,) * len(node.shape))!r})({inputs[0]})")


def _noise(node: Node, inputs: Sequence[str]) -> Written:
    layer: Any = node.layer
    refuse_unless(layer.std <= 1, node, f"noise of a deviation of {layer.std}, which is above 1")
    return Written(f"layers.GaussianNoise({layer.std})({inputs[0]})")


def _plain(template: str) -> Writer:
    """Return a writer for a call with one input, which is {x} in the template; other names are the layer's fields."""
    return lambda node, inputs: Written(filled(template, inputs[0], node.layer))


WRITERS: Mapping[str, Writer] = {
    **keras_windows.WRITERS,
    "abs": _plain("ops.abs({x})"),
    "add": _merge("+"),
    "attention": _attention,
    "batch_norm": _batch_norm,
    "channel_max": _plain("ops.max({x}, -1, keepdims=True)"),
    "channel_mean": _plain("ops.mean({x}, -1, keepdims=True)"),
    "channel_shuffle": _channel_shuffle,
    "clip": _clip,
    "concat": _concat,
    "crop2d": _crop,
    "dense": _dense,
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
    "input": lambda node, inputs: Written(taken(inputs[0], node)),
    "instance_norm": _normalised(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("ops.leaky_relu({x}, {negative_slope})"),
    "local_response_norm": _plain("local_response_norm({x}, {size}, {alpha}, {beta}, {k})"),
    "matmul": _matmul,
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
    "reparameterize": lambda node, inputs: Written(f"Reparameterize()([{', '.join(inputs)}])"),
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
    "selu": _plain("ops.selu({x})"),
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
