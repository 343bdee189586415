"""Runs a graph on arrays (n, h, w, c), for all frameworks with NumPy's function names, such as JAX and Keras.

Every type of layer has one function here, from the node, its arrays and its inputs to its output. Maps are (n, h, w, c)
and vectors (n, features). Weights have the layout of these frameworks: (kh, kw, c, filters) and (features, units).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss, Optimizer

Tensor = Any
TAPS_FIRST, TRANSPOSED = (2, 3, 1, 0), (1, 0)  # axes of the weights of convolutions and dense layers


class Framework(Protocol):
    """The functions that differ from framework to framework; windows have no padding."""

    array: Any  # a module with NumPy's function names
    activation: Any  # a module with functions such as relu

    def convolution(
        self, x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int
    ) -> Tensor:
        """Correlate x (n, h, w, c) with weights (kh, kw, c/groups, filters)."""

    def maximum(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the maximum of each window."""

    def mean(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the mean of each window."""

    def constant(self, values: Array, like: Tensor) -> Tensor:
        """Return an array with the type of another one."""

    def keep(self, shape: tuple[int, ...], rate: float) -> Tensor:
        """Return a dropout mask: 0 at random places, a share `rate` of all, and 1 / (1 - rate) elsewhere."""


@dataclass(frozen=True)
class Call:
    """One call of a layer: its node, arrays and inputs, and the running statistics that the call updates."""

    framework: Framework
    node: Node
    arrays: Mapping[str, Tensor]  # parameters and state by the names within the layer
    inputs: Sequence[Tensor]
    training: bool
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def x(self) -> Tensor:
        """The input of a layer that has only one."""
        return self.inputs[0]

    @property
    def layer(self) -> Any:
        """The layer, without a static type, so that its fields can be read."""
        return self.node.layer

    @property
    def array(self) -> Any:
        """The framework's module with NumPy's function names."""
        return self.framework.array


Function = Callable[[Call], Tensor]


def native(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return parameters and states by name, with the axes of weights in the order of these frameworks.

    RunError with all layers that have no counterpart.
    """
    strange = sorted({node.layer.type_name for node in graph.nodes} - FUNCTIONS.keys())
    if strange:
        raise RunError(f"no counterpart of {', '.join(strange)} is known here", "measure a spec without such layers")
    arrays = {}
    for node in graph.nodes:
        for name in (*(() if node.share else node.params), *node.state):
            key = f"{node.name}.{name}"
            arrays[key] = np.ascontiguousarray(values[key].transpose(axes_of(node, name, values[key].ndim)))
    return arrays


def axes_of(node: Node, name: str, ndim: int) -> tuple[int, ...]:
    """Return the order of axes that a parameter has in these frameworks."""
    if name in ("weight", "depthwise", "pointwise") and ndim == 4:
        return TAPS_FIRST
    if name == "bias" and ndim == 3:
        return (1, 2, 0)  # one for each output position
    return TRANSPOSED if name == "weight" and ndim == 2 else tuple(range(ndim))


def apply(
    framework: Framework, graph: Graph, arrays: Mapping[str, Tensor], x: Tensor, *, training: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the network's output, and the running statistics that changed, by name."""
    values: dict[str, Tensor] = {INPUT: x}
    state: dict[str, Tensor] = {}
    for node in graph.nodes:
        node_arrays = {name: arrays[key] for name, key in node.keys.items()}
        node_arrays |= {name: arrays[f"{node.name}.{name}"] for name in node.state}
        call = Call(framework, node, node_arrays, [values[name] for name in node.inputs], training)
        values[node.name] = FUNCTIONS[node.layer.type_name](call)
        state |= {f"{node.name}.{name}": value for name, value in call.state.items()}
    return values[graph.output.name], state


def loss(framework: Framework, settings: Loss, classes: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the mean loss of a batch as a function of output, images and labels."""
    array, activation, chosen, fields = framework.array, framework.activation, settings.type_name, vars(settings)
    if fields.get("class_weights") is not None:
        raise RunError("no counterpart of class_weights is known here", "measure without them")

    def target(y: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        return x if settings.reads_input else activation.one_hot(labels, classes, dtype=y.dtype)

    def cross_entropy(y: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        smoothing = fields.get("label_smoothing", 0.0)
        shares = activation.one_hot(labels, classes, dtype=y.dtype) * (1 - smoothing) + smoothing / classes
        return -array.mean(array.sum(shares * activation.log_softmax(y), axis=-1))

    def squared(y: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        return array.mean((y - target(y, x, labels)) ** 2)

    def huber(y: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        delta, error = fields["delta"], array.abs(y - target(y, x, labels))
        near = array.minimum(error, delta)
        return array.mean(near * (error - near / 2))

    def binary(y: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        return array.mean(array.maximum(y, 0) - y * target(y, x, labels) + array.log1p(array.exp(-array.abs(y))))

    known = {
        "softmax_cross_entropy": cross_entropy,
        "mean_squared_error": squared,
        "huber": huber,
        "binary_cross_entropy": binary,
    }
    if chosen not in known:
        raise RunError(f"no counterpart of the loss {chosen} is known here", "use softmax_cross_entropy")
    return known[chosen]


def decays(graph: Graph, optimizer: Optimizer) -> dict[str, float]:
    """Return the weight decay of every trained parameter, by name."""
    decay_of = {}
    if any(node.rate_factor != 1 for node in graph.nodes):
        raise RunError("no counterpart of rate_factor is known here", "leave it out, or race against torch")
    for node in graph.nodes:
        decay = optimizer.weight_decay if node.weight_decay is None else node.weight_decay
        for name, parameter in () if node.share or not node.trainable else node.params.items():
            decay_of[f"{node.name}.{name}"] = decay if parameter.decays else 0.0
    return decay_of


def _padded(call: Call, x: Tensor, padding: tuple[int, int, int, int], value: float = 0.0) -> Tensor:
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return call.array.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _biased(call: Call, y: Tensor) -> Tensor:
    return y + call.arrays["bias"] if "bias" in call.arrays else y


def _convolution(call: Call) -> Tensor:
    windows = call.layer.windows(call.node.input_shapes[0])
    groups = getattr(call.layer, "groups", call.node.input_shapes[0][0])  # depthwise: as many as channels
    x = _padded(call, call.x, windows.padding)
    return _biased(call, call.framework.convolution(x, call.arrays["weight"], windows.stride, windows.dilation, groups))


def _separable(call: Call) -> Tensor:
    windows, channels = call.layer.windows(call.node.input_shapes[0]), call.node.input_shapes[0][0]
    x, convolution = _padded(call, call.x, windows.padding), call.framework.convolution
    middle = convolution(x, call.arrays["depthwise"], windows.stride, windows.dilation, channels)
    return _biased(call, convolution(middle, call.arrays["pointwise"], (1, 1), (1, 1), 1))


def _transposed(call: Call) -> Tensor:
    """Insert zeros between the pixels and convolve with flipped filters; the crop of the result is done in advance."""
    layer, windows, array = call.layer, call.layer.windows(call.node.input_shapes[0]), call.array
    weight, groups = call.arrays["weight"], layer.groups  # (kh, kw, filters/groups, c)
    kh, kw, filters, c = weight.shape
    turned = array.reshape(array.flip(weight, (0, 1)), (kh, kw, filters, groups, c // groups))
    turned = array.reshape(array.transpose(turned, (0, 1, 4, 3, 2)), (kh, kw, c // groups, groups * filters))
    x = call.x
    for axis, stride in zip((1, 2), layer.stride, strict=True):
        shape = list(x.shape)
        spread = array.stack([x, *[array.zeros_like(x)] * (stride - 1)], axis=axis + 1)
        shape[axis] *= stride
        x = array.reshape(spread, (-1, *shape[1:]))
        x = x[:, : shape[1] - stride + 1] if axis == 1 else x[:, :, : shape[2] - stride + 1]
    top, bottom, left, right = windows.padding
    eh, ew = windows.extent
    down, across = layer.output_padding
    x = _padded(call, x, (eh - 1, eh - 1 + down, ew - 1, ew - 1 + across))
    x = x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
    return _biased(call, call.framework.convolution(x, turned, (1, 1), windows.dilation, groups))


def _dense(call: Call) -> Tensor:
    return _biased(call, call.array.matmul(call.x, call.arrays["weight"]))


def _max_pool(call: Call) -> Tensor:
    windows = call.layer.windows(call.node.input_shapes[0])
    x = _padded(call, call.x, windows.padding, -np.inf)
    return call.framework.maximum(x, windows.kernel, windows.stride)


def _mean_of_windows(call: Call, x: Tensor, *, count_padding: bool) -> Tensor:
    windows = call.layer.windows(call.node.input_shapes[0])
    y = call.framework.mean(_padded(call, x, windows.padding), windows.kernel, windows.stride)
    if count_padding or not any(windows.padding):
        return y
    inside = _padded(call, call.array.ones_like(x[:1, :, :, :1]), windows.padding)
    return y / call.framework.mean(inside, windows.kernel, windows.stride)


def _lp_pool(call: Call) -> Tensor:
    powers = call.array.abs(call.x) ** call.layer.p
    return _mean_of_windows(call, powers, count_padding=False) ** (1 / call.layer.p)


def _resampled(call: Call) -> Tensor:
    """Resample rows and columns as weighted sums, by the layer's own weights."""
    (_, h, w), (_, oh, ow) = call.node.input_shapes[0], call.node.shape
    down, across = (call.framework.constant(call.layer.weights(*sides), call.x) for sides in ((oh, h), (ow, w)))
    return call.array.einsum("nhwc,oh,pw->nopc", call.x, down, across)


def _batch_norm(call: Call) -> Tensor:
    layer, array, x = call.layer, call.array, call.x
    axes = tuple(range(len(x.shape) - 1))
    mean, variance = call.arrays["running_mean"], call.arrays["running_variance"]
    if call.training:
        momentum = layer.momentum
        batch = array.mean(x, axis=axes), array.var(x, axis=axes)
        count = int(x.shape[0]) * int(np.prod(x.shape[1:-1], dtype=int))
        call.state["running_mean"] = momentum * mean + (1 - momentum) * batch[0]
        call.state["running_variance"] = momentum * variance + (1 - momentum) * (count / max(count - 1, 1)) * batch[1]
        mean, variance = batch
    scale = call.arrays["weight"] / array.sqrt(variance + layer.epsilon)
    return x * scale + (call.arrays["bias"] - mean * scale)


def _group_norm(groups_of: Callable[[Any, int], int]) -> Function:
    def function(call: Call) -> Tensor:
        array, x, channels = call.array, call.x, call.node.input_shapes[0][0]
        groups = groups_of(call.layer, channels)
        by_group = array.reshape(x, (-1, *x.shape[1:-1], groups, channels // groups))
        axes = (*range(1, len(x.shape) - 1), len(x.shape))
        mean, variance = (f(by_group, axis=axes, keepdims=True) for f in (array.mean, array.var))
        normalised = (by_group - mean) / array.sqrt(variance + call.layer.epsilon)
        return array.reshape(normalised, (-1, *x.shape[1:])) * call.arrays["weight"] + call.arrays["bias"]

    return function


_OF_IMAGES = _group_norm(lambda layer, channels: 1)


def _layer_norm(call: Call) -> Tensor:
    array, x = call.array, call.x
    if call.layer.over == "map":
        return _OF_IMAGES(call)
    mean, variance = (f(x, axis=-1, keepdims=True) for f in (array.mean, array.var))
    return (x - mean) / array.sqrt(variance + call.layer.epsilon) * call.arrays["weight"] + call.arrays["bias"]


def _rms_norm(call: Call) -> Tensor:
    square = call.array.mean(call.x * call.x, axis=-1, keepdims=True)
    return call.x / call.array.sqrt(square + call.layer.epsilon) * call.arrays["weight"]


def _response_norm(call: Call) -> Tensor:
    layer, x, size = call.layer, call.x, call.layer.size
    squares = call.array.pad(x * x, ((0, 0), (0, 0), (0, 0), ((size - 1) // 2, size // 2)))
    window = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return x / (layer.k + layer.alpha / size * window) ** layer.beta


def _merge_by(function: Callable[[Any, Tensor, Tensor], Tensor]) -> Function:
    """Return a function that combines all inputs in turn; vectors become 1x1 maps beside maps."""

    def merge(call: Call) -> Tensor:
        rank = len(call.node.shape) + 1
        inputs = [x[:, None, None] if len(x.shape) < rank else x for x in call.inputs]
        return reduce(partial(function, call.array), inputs)

    return merge


def _scale_shift(call: Call) -> Tensor:
    scale, shift = (
        call.arrays.get(name, np.array(getattr(call.layer, name) or neutral, np.float32))
        for name, neutral in (("scale", 1.0), ("shift", 0.0))
    )
    return call.x * scale + shift


def _channel_shuffle(call: Call) -> Tensor:
    x, groups = call.x, call.layer.groups
    n_h_w = (-1, *x.shape[1:-1])
    by_group = call.array.reshape(x, (*n_h_w, groups, x.shape[-1] // groups))
    return call.array.reshape(call.array.swapaxes(by_group, -1, -2), (*n_h_w, x.shape[-1]))


def _pixel_shuffle(call: Call) -> Tensor:
    """Rearrange channels in the order (c, row, column) into pixels."""
    _, h, w, channels = call.x.shape
    factor = call.layer.factor
    c = channels // factor**2
    parts = call.array.reshape(call.x, (-1, h, w, c, factor, factor))
    return call.array.reshape(call.array.transpose(parts, (0, 1, 4, 2, 5, 3)), (-1, h * factor, w * factor, c))


def _zero_pad(call: Call) -> Tensor:
    top, bottom, left, right = call.layer.padding
    return call.array.pad(call.x, ((0, 0), (top, bottom), (left, right), call.layer.channels))


def _crop(call: Call) -> Tensor:
    x, (top, bottom, left, right) = call.x, call.layer.cropping
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def _slice(call: Call) -> Tensor:
    layer = call.layer
    channels, rows, columns = layer.slices(call.node.input_shapes[0])
    return call.x[:, rows, columns, channels]


def _public(call: Call, x: Tensor) -> Tensor:
    """Transpose a map to (n, c, h, w), the order of axes in specs."""
    return call.array.transpose(x, (0, 3, 1, 2)) if len(x.shape) == 4 else x


def _call_own(call: Call, x: Tensor) -> Tensor:
    return call.array.transpose(x, (0, 2, 3, 1)) if len(x.shape) == 4 else x


def _reshape(call: Call) -> Tensor:
    return _call_own(call, call.array.reshape(_public(call, call.x), (-1, *call.node.shape)))


def _permute(call: Call) -> Tensor:
    order = (0, *(axis + 1 for axis in call.layer.order))
    return _call_own(call, call.array.transpose(_public(call, call.x), order))


def _dropping(mask: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Function:
    """Return a dropout whose mask has the shape `mask(shape)`: where that is 1, numbers are dropped together."""

    def function(call: Call) -> Tensor:
        if not call.training:
            return call.x
        shape = (int(call.x.shape[0]), *call.x.shape[1:])
        return call.x * call.framework.keep(mask(shape), call.layer.rate)

    return function


def _plain(function: Callable[[Framework, Tensor, Any], Tensor]) -> Function:
    """Return a function of a call, from one of the framework, one input and the layer."""
    return lambda call: function(call.framework, call.x, call.layer)


def _activation(name: str) -> Function:
    return lambda call: getattr(call.framework.activation, name)(call.x)


FUNCTIONS: Mapping[str, Function] = {
    "adaptive_avg_pool2d": _resampled,
    "abs": _plain(lambda own, x, layer: own.array.absolute(x)),
    "add": _merge_by(lambda array, x, other: x + other),
    "avg_pool2d": lambda call: _mean_of_windows(call, call.x, count_padding=call.layer.count_include_pad),
    "batch_norm": _batch_norm,
    "channel_shuffle": _channel_shuffle,
    "channel_max": _plain(lambda own, x, layer: own.array.max(x, axis=-1, keepdims=True)),
    "channel_mean": _plain(lambda own, x, layer: own.array.mean(x, axis=-1, keepdims=True)),
    "clip": _plain(lambda own, x, layer: own.array.clip(x, layer.min, layer.max)),
    "concat": lambda call: call.array.concatenate(list(call.inputs), -1),
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "crop2d": _crop,
    "dense": _dense,
    "depthwise_conv2d": _convolution,
    "drop_path": _dropping(lambda shape: (shape[0], *(1,) * (len(shape) - 1))),
    "dropout": _dropping(lambda shape: shape),
    "elu": _plain(lambda own, x, layer: own.activation.elu(x, layer.alpha)),
    "exp": _plain(lambda own, x, layer: own.array.exp(x)),
    "flatten": _reshape,
    "gelu": _plain(lambda own, x, layer: own.activation.gelu(x, approximate=layer.approximate == "tanh")),
    "global_avg_pool2d": _plain(lambda own, x, layer: own.array.mean(x, axis=(1, 2))),
    "global_max_pool2d": _plain(lambda own, x, layer: own.array.max(x, axis=(1, 2))),
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _activation("hard_sigmoid"),
    "hard_swish": _plain(lambda own, x, layer: x * own.activation.hard_sigmoid(x)),
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain(lambda own, x, layer: own.activation.leaky_relu(x, layer.negative_slope)),
    "local_response_norm": _response_norm,
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "maximum": _merge_by(lambda array, x, other: array.maximum(x, other)),
    "minimum": _merge_by(lambda array, x, other: array.minimum(x, other)),
    "mish": _plain(lambda own, x, layer: x * own.array.tanh(own.activation.softplus(x))),
    "multiply": _merge_by(lambda array, x, other: x * other),
    "permute": _permute,
    "pixel_shuffle": _pixel_shuffle,
    "prelu": lambda call: call.array.maximum(call.x, 0) + call.arrays["weight"] * call.array.minimum(call.x, 0),
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
    "selu": _activation("selu"),
    "separable_conv2d": _separable,
    "sigmoid": _activation("sigmoid"),
    "silu": _activation("silu"),
    "slice": _slice,
    "softmax": _activation("softmax"),
    "softplus": _activation("softplus"),
    "spatial_dropout2d": _dropping(lambda shape: (shape[0], 1, 1, shape[-1])),
    "square": _plain(lambda own, x, layer: x * x),
    "subtract": _merge_by(lambda array, x, other: x - other),
    "tanh": _plain(lambda own, x, layer: own.array.tanh(x)),
    "upsample2d": _resampled,
    "zero_pad2d": _zero_pad,
}
