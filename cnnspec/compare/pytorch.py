"""A graph as a PyTorch module: the same network, the same weights, the same names.

Every type of layer has one function here, from the node and PyTorch's arrays to PyTorch's array. `bench` races against
it, and it is the strongest check of this library's results.
"""

from __future__ import annotations

import dataclasses
import importlib
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss, Optimizer

Tensor = Any
Tensors = Mapping[str, Tensor]
Function = Callable[[Node, Tensors, Sequence[Tensor], bool], Tensor]  # node, parameters and state, inputs, training


LOADED: dict[str, Any] = {}  # torch.compile looks into a dictionary, where an import would cut its graph


def torch() -> Any:
    """Import the package; RunError if it is not installed."""
    if "torch" not in LOADED:
        try:
            LOADED["torch"] = importlib.import_module("torch")
        except ImportError as error:
            raise RunError("PyTorch is not installed", "pip install torch") from error
    return LOADED["torch"]


def module(graph: Graph, values: Mapping[str, Array]) -> Any:
    """Return the graph as a `torch.nn.Module` on (n, c, h, w), with a copy of the parameters and states in `values`.

    RunError with all layers that PyTorch has no counterpart of.
    """
    library = torch()
    strange = sorted({node.layer.type_name for node in graph.nodes} - FUNCTIONS.keys())
    if strange:
        raise RunError(f"PyTorch has no counterpart of {', '.join(strange)}", "measure a spec without such layers")

    base: Any = library.nn.Module

    class Module(base):  # type: ignore[misc]  # known at run time only
        """A PyTorch module whose parameters have this library's names, with underscores for dots."""

        def __init__(self) -> None:
            super().__init__()
            for node in graph.nodes:
                for name in () if node.share else node.params:
                    key = f"{node.name}.{name}"
                    tensor = library.nn.Parameter(library.tensor(values[key]), requires_grad=node.trainable)
                    self.register_parameter(_attribute(key), tensor)
                for name in node.state:
                    key = f"{node.name}.{name}"
                    self.register_buffer(_attribute(key), library.tensor(values[key]))

        def forward(self, x: Tensor) -> Tensor:
            """Return the output of the last node."""
            values = {INPUT: x}
            for node in graph.nodes:
                arrays = {name: getattr(self, _attribute(key)) for name, key in node.keys.items()}
                arrays |= {name: getattr(self, _attribute(f"{node.name}.{name}")) for name in node.state}
                inputs = [values[name] for name in node.inputs]
                values[node.name] = FUNCTIONS[node.layer.type_name](node, arrays, inputs, self.training)
            return values[graph.output.name]

    return Module()


def _attribute(key: str) -> str:
    return key.replace(".", "__")


def optimizer(network: Any, graph: Graph, settings: Optimizer) -> Any:
    """Return PyTorch's optimizer with the same settings, weight decay and factors of the learning rate."""
    library, chosen = torch(), settings.type_name
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for node in graph.nodes:
        node_decay = settings.weight_decay if node.weight_decay is None else node.weight_decay
        for name, parameter in () if node.share or not node.trainable else node.params.items():
            tensor = getattr(network, _attribute(f"{node.name}.{name}"))
            groups.setdefault((node_decay if parameter.decays else 0.0, node.rate_factor), []).append(tensor)
    fields: Any = settings
    parameters = [
        {"params": tensors, "weight_decay": decay, "lr": fields.learning_rate * factor}
        for (decay, factor), tensors in groups.items()
    ]
    if chosen in ("sgd", "momentum", "nesterov"):
        return library.optim.SGD(
            parameters, lr=fields.learning_rate, momentum=fields.momentum, nesterov=fields.nesterov
        )
    if chosen in ("adam", "adamw"):
        make = {"adam": library.optim.Adam, "adamw": library.optim.AdamW}[chosen]
        return make(parameters, lr=fields.learning_rate, betas=(fields.beta1, fields.beta2), eps=fields.epsilon)
    raise RunError(f"no counterpart of the optimizer {chosen} in PyTorch is known here", "use sgd, adam or adamw")


def loss(settings: Loss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the mean loss of a batch as a function of output, images and labels."""
    library, chosen = torch(), settings.type_name
    functional, fields = library.nn.functional, settings
    if getattr(fields, "class_weights", None) is not None:
        raise RunError("no counterpart of class_weights in PyTorch is known here", "measure without them")
    if chosen == "softmax_cross_entropy":
        smoothing = getattr(fields, "label_smoothing", 0.0)
        return lambda y, x, labels: functional.cross_entropy(y, labels, label_smoothing=smoothing)
    compare: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mean_squared_error": functional.mse_loss,
        "huber": lambda y, target: functional.huber_loss(y, target, delta=getattr(fields, "delta", 1.0)),
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    }
    if chosen not in compare:
        raise RunError(f"no counterpart of the loss {chosen} in PyTorch is known here", "use softmax_cross_entropy")
    if settings.reads_input:
        return lambda y, x, labels: compare[chosen](y, x)
    if chosen == "binary_cross_entropy":  # a single output stands for the second of two classes
        return lambda y, x, labels: compare[chosen](
            y, functional.one_hot(labels, max(2, y.shape[1])).to(y.dtype)[:, -y.shape[1] :]
        )
    return lambda y, x, labels: compare[chosen](y, functional.one_hot(labels, y.shape[1]).to(y.dtype))


def _functional() -> Any:
    return torch().nn.functional


def _margins(padding: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return padding in PyTorch's order: left, right, top, bottom."""
    top, bottom, left, right = padding
    return left, right, top, bottom


def _padded(x: Tensor, padding: tuple[int, int, int, int], value: float = 0.0) -> Tensor:
    return _functional().pad(x, _margins(padding), value=value) if any(padding) else x


def _symmetric_padding(
    x: Tensor, padding: tuple[int, int, int, int], value: float = 0.0
) -> tuple[Tensor, tuple[int, int]]:
    """Return the map, and the padding that PyTorch adds itself if opposite sides are equal; else a padded map and 0."""
    top, bottom, left, right = padding
    return (x, (top, left)) if top == bottom and left == right else (_padded(x, padding, value), (0, 0))


def _convolution(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    x, padding = _symmetric_padding(inputs[0], windows.padding)
    groups = getattr(layer, "groups", node.input_shapes[0][0])  # depthwise: as many as channels
    bias = arrays.get("bias")
    untied = bias is not None and bias.ndim == 3
    y = _functional().conv2d(
        x, arrays["weight"], None if untied else bias, windows.stride, padding, windows.dilation, groups
    )
    return y + bias if untied else y


def _separable(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    windows, channels = layer.windows(node.input_shapes[0]), node.input_shapes[0][0]
    x, padding = _symmetric_padding(inputs[0], windows.padding)
    first = _functional().conv2d(x, arrays["depthwise"], None, windows.stride, padding, windows.dilation, channels)
    return _functional().conv2d(first, arrays["pointwise"], arrays.get("bias"))


def _transposed(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    top, bottom, left, right = windows.padding
    y = _functional().conv_transpose2d(
        inputs[0],
        arrays["weight"],
        arrays.get("bias"),
        stride=windows.stride,
        output_padding=layer.output_padding,
        groups=layer.groups,
        dilation=windows.dilation,
    )
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _weight_norm(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    direction = arrays["direction"]
    factor = arrays["length"] / direction.flatten(1).norm(dim=1)
    weight = direction * factor.reshape(-1, *(1,) * (direction.ndim - 1))
    inner = dataclasses.replace(node, layer=layer.layer)
    return FUNCTIONS[layer.layer.type_name](inner, {**arrays, "weight": weight}, inputs, training)


def _max_pool(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    top, bottom, left, right = windows.padding
    if (top, left) == (bottom, right) and 2 * top <= windows.kernel[0] and 2 * left <= windows.kernel[1]:
        return _functional().max_pool2d(inputs[0], windows.kernel, windows.stride, (top, left))
    return _functional().max_pool2d(_padded(inputs[0], windows.padding, float("-inf")), windows.kernel, windows.stride)


def _mean_of_windows(node: Node, x: Tensor, *, count_padding: bool) -> Tensor:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    y = _functional().avg_pool2d(_padded(x, windows.padding), windows.kernel, windows.stride)
    if count_padding or not any(windows.padding):
        return y
    covered = _functional().avg_pool2d(
        _padded(torch().ones_like(x[:1, :1]), windows.padding), windows.kernel, windows.stride
    )
    return y / covered


def _avg_pool(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return _mean_of_windows(node, inputs[0], count_padding=layer.count_include_pad)


def _lp_pool(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return _mean_of_windows(node, inputs[0].abs() ** layer.p, count_padding=False) ** (1 / layer.p)


def _batch_norm(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return _functional().batch_norm(
        inputs[0],
        arrays["running_mean"],
        arrays["running_variance"],
        arrays["weight"],
        arrays["bias"],
        training=training,
        momentum=1 - layer.momentum,
        eps=layer.epsilon,
    )


def _attention(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    c, h, w = node.shape
    rows, columns = layer.window or (h, w)
    cut = inputs[0].reshape(-1, c, h // rows, rows, w // columns, columns).permute(0, 2, 4, 3, 5, 1)
    projected = _functional().linear(cut.reshape(-1, rows * columns, c), arrays["in_weight"], arrays.get("in_bias"))
    query, key, value = (part.unflatten(2, (layer.heads, -1)).transpose(1, 2) for part in projected.chunk(3, 2))
    mixed = _functional().scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    y = _functional().linear(mixed, arrays["out_weight"], arrays.get("out_bias")).reshape(cut.shape)
    return y.permute(0, 5, 1, 3, 2, 4).reshape(-1, c, h, w)


def _matmul(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    left, right = inputs
    return (left.mT if layer.transpose == "first" else left) @ (right.mT if layer.transpose == "second" else right)


def _group_norm(groups_of: Callable[[Any, int], int]) -> Function:
    def function(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
        layer: Any = node.layer
        groups = groups_of(layer, node.input_shapes[0][0])
        return _functional().group_norm(inputs[0], groups, arrays["weight"], arrays["bias"], layer.epsilon)

    return function


_OF_IMAGES = _group_norm(lambda layer, channels: 1)


def _layer_norm(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    if layer.over == "map" and inputs[0].ndim == 4:
        return _OF_IMAGES(node, arrays, inputs, training)
    x, weight, bias = inputs[0].movedim(1, -1), arrays["weight"], arrays["bias"]
    return _functional().layer_norm(x, weight.shape, weight, bias, layer.epsilon).movedim(-1, 1)


def _rms_norm(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    weight = arrays["weight"]
    return _functional().rms_norm(inputs[0].movedim(1, -1), weight.shape, weight, layer.epsilon).movedim(-1, 1)


def _response_norm(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    x, size = inputs[0], layer.size
    squares = _functional().pad((x * x).unsqueeze(1), (0, 0, 0, 0, (size - 1) // 2, size // 2))
    mean = _functional().avg_pool3d(squares, (size, 1, 1), stride=1).squeeze(1)
    return x / (layer.k + layer.alpha * mean) ** layer.beta


def _merge_by(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Return a function that combines all inputs in turn; vectors become 1x1 maps beside maps."""

    def merge(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
        return reduce(function, [x[:, :, None, None] if x.ndim < len(node.shape) + 1 else x for x in inputs])

    return merge


def _first_of_equals(greater: bool) -> Function:
    """Return the maximum or minimum of inputs with its gradient to the first of equals, unlike `torch.maximum`."""

    def choose(left: Tensor, right: Tensor) -> Tensor:
        return torch().where(left >= right if greater else left <= right, left, right)

    return _merge_by(choose)


NEUTRAL = {"scale": 1.0, "shift": 0.0}


def _scale_shift(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    x = inputs[0]
    shape = (-1, *(1,) * (x.ndim - 2))
    scale, shift = (arrays.get(name, getattr(layer, name) or (neutral,)) for name, neutral in NEUTRAL.items())
    scale, shift = (torch().as_tensor(array, dtype=x.dtype).reshape(shape) for array in (scale, shift))
    return x * scale + shift


def _channel_shuffle(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return inputs[0].unflatten(1, (layer.groups, -1)).transpose(1, 2).flatten(1, 2)


def _upsample(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return _functional().interpolate(inputs[0], scale_factor=layer.scale, mode=layer.mode)


def _zero_pad(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return _functional().pad(inputs[0], (*_margins(layer.padding), *layer.channels))


def _crop(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    x, (top, bottom, left, right) = inputs[0], layer.cropping
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _slice(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return inputs[0][(slice(None), *layer.slices(node.input_shapes[0]))]


def _permute(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    return inputs[0].permute(0, *(axis + 1 for axis in layer.order))


def _drop_path(node: Node, arrays: Tensors, inputs: Sequence[Tensor], training: bool) -> Tensor:
    layer: Any = node.layer
    x = inputs[0]
    if not training:
        return x
    is_kept = torch().rand(x.shape[0], *(1,) * (x.ndim - 1)) >= layer.rate
    return x * is_kept / (1 - layer.rate)


def _plain(function: Callable[[Any, Tensor, Any], Tensor]) -> Function:
    """Return a function of a node, from one of the module `torch`, one input and the layer."""
    return lambda node, arrays, inputs, training: function(torch(), inputs[0], node.layer)


def _dropping(name: str) -> Function:
    return lambda node, arrays, inputs, training: getattr(_functional(), name)(
        inputs[0], getattr(node.layer, "rate", 0.5), training
    )


FUNCTIONS: Mapping[str, Function] = {
    "adaptive_avg_pool2d": _plain(lambda t, x, layer: t.nn.functional.adaptive_avg_pool2d(x, layer.output_size)),
    "abs": _plain(lambda t, x, layer: x.abs()),
    "add": _merge_by(operator.add),
    "attention": _attention,
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "channel_shuffle": _channel_shuffle,
    "channel_max": _plain(lambda t, x, layer: x.max(1, keepdim=True).values),
    "channel_mean": _plain(lambda t, x, layer: x.mean(1, keepdim=True)),
    "clip": _plain(lambda t, x, layer: x.clip(layer.min, layer.max)),
    "concat": lambda node, arrays, inputs, training: torch().cat(list(inputs), 1),
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "crop2d": _crop,
    "dense": lambda node, arrays, inputs, training: _functional().linear(
        inputs[0], arrays["weight"], arrays.get("bias")
    ),
    "depthwise_conv2d": _convolution,
    "drop_path": _drop_path,
    "dropout": _dropping("dropout"),
    "elu": _plain(lambda t, x, layer: t.nn.functional.elu(x, layer.alpha)),
    "exp": _plain(lambda t, x, layer: x.exp()),
    "flatten": _plain(lambda t, x, layer: x.flatten(1)),
    "gelu": _plain(lambda t, x, layer: t.nn.functional.gelu(x, approximate=layer.approximate)),
    "global_avg_pool2d": _plain(lambda t, x, layer: x.mean((2, 3))),
    "global_max_pool2d": _plain(lambda t, x, layer: x.amax((2, 3))),
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "hard_sigmoid": _plain(lambda t, x, layer: t.nn.functional.hardsigmoid(x)),
    "hard_swish": _plain(lambda t, x, layer: t.nn.functional.hardswish(x)),
    "input": _plain(lambda t, x, layer: x[:, layer.start : layer.stop].unflatten(1, layer.shape)),
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "leaky_relu": _plain(lambda t, x, layer: t.nn.functional.leaky_relu(x, layer.negative_slope)),
    "local_response_norm": _response_norm,
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "matmul": _matmul,
    "maximum": _first_of_equals(True),
    "minimum": _first_of_equals(False),
    "mish": _plain(lambda t, x, layer: t.nn.functional.mish(x)),
    "multiply": _merge_by(operator.mul),
    "pad2d": _plain(lambda t, x, layer: t.nn.functional.pad(x, _margins(layer.padding), mode=layer.mode)),
    "permute": _permute,
    "pixel_shuffle": _plain(lambda t, x, layer: t.nn.functional.pixel_shuffle(x, layer.factor)),
    "positions": lambda node, arrays, inputs, training: inputs[0] + arrays["weight"],
    "prelu": lambda node, arrays, inputs, training: _functional().prelu(inputs[0], arrays["weight"]),
    "relu": _plain(lambda t, x, layer: t.relu(x)),
    "relu6": _plain(lambda t, x, layer: t.nn.functional.relu6(x)),
    "reshape": _plain(lambda t, x, layer: x.reshape(-1, *layer.shape)),
    "rms_norm": _rms_norm,
    "scale_shift": _scale_shift,
    "selu": _plain(lambda t, x, layer: t.selu(x)),
    "separable_conv2d": _separable,
    "sigmoid": _plain(lambda t, x, layer: t.sigmoid(x)),
    "silu": _plain(lambda t, x, layer: t.nn.functional.silu(x)),
    "slice": _slice,
    "softmax": _plain(lambda t, x, layer: t.softmax(x, 1)),
    "softplus": _plain(lambda t, x, layer: t.nn.functional.softplus(x)),
    "spatial_dropout2d": _dropping("dropout2d"),
    "square": _plain(lambda t, x, layer: x.square()),
    "subtract": _merge_by(operator.sub),
    "tanh": _plain(lambda t, x, layer: t.tanh(x)),
    "upsample2d": _upsample,
    "weight_norm": _weight_norm,
    "zero_pad2d": _zero_pad,
}
