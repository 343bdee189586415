"""Every layer as an expression of a program: a call of one of `numpy_functions`, or of NumPy itself."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.export import numpy_functions
from cnnspec.export.counted_padding import counted_padding
from cnnspec.export.exported_network import ExportedNetwork, Output
from cnnspec.export.straight_line import INPUTS, assignment, results, taken, variables_of
from cnnspec.graph import INPUT, Graph, Node

Writer = Callable[[Node, Sequence[str], Callable[[str], str]], str]


def network_lines(
    found: ExportedNetwork, program: str, scaled: Callable[[str, Output], str]
) -> tuple[list[str], set[str]]:
    """Return the body of the function that computes a network, and the names of the `numpy_functions` that it calls.

    RunError with all layers that have no expression; `program` is the name of the program in that message. `scaled`
    writes a value in the units of the data.
    """
    graph = found.graph
    strange = sorted({node.layer.type_name for node in graph.nodes if not node.layer.train_only} - WRITERS.keys())
    if strange:
        raise RunError(f"the {program} has no words for {', '.join(strange)}", "export a spec without such layers")
    variables = variables_of(graph, {"W", "jax", "jnp", "lax", *vars(numpy_functions)}, found.outputs)
    lines, used = [], set[str]()
    if variables[INPUT] not in ("x", INPUTS):
        lines.append(f"    {variables[INPUT]} = x")
    for node in graph.nodes:
        inputs = [variables[name] for name in node.inputs]
        write = WRITERS.get(node.layer.type_name, _write_input)
        expression = write(node, inputs, partial(_parameter, node))
        used |= set(re.findall(r"\b([a-z_0-9]+)\(", expression)) & vars(numpy_functions).keys()
        lines += assignment(variables[node.name], expression, node.shape)
    lines += results("return ", found.outputs, variables, scaled)
    return lines, used


def parameter_keys(graph: Graph) -> set[str]:
    """Return the names of all arrays that the lines of a network read."""
    return {_key(node, part) for node in graph.nodes for part in (*node.params, *node.state)}


def call(function: str, *arguments: str, **named: Any) -> str:
    """Return a call of one of `numpy_functions`, without arguments that equal their defaults."""
    defaults = inspect.signature(getattr(numpy_functions, function)).parameters
    given = [f"{name}={value!r}" for name, value in named.items() if value != defaults[name].default]
    return f"{function}({', '.join([*arguments, *given])})"


def _parameter(node: Node, part: str) -> str:
    return f"W[{json.dumps(_key(node, part))}]"


def _key(node: Node, part: str) -> str:
    return node.keys.get(part, f"{node.name}.{part}")


def _plain(function: str, **fields: str) -> Writer:
    """Return a writer for a function of the inputs and some fields of the layer."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        return call(function, *inputs, **{name: getattr(node.layer, field) for name, field in fields.items()})

    return write


def _numpy(function: str) -> Writer:
    """Return a writer for one of NumPy's functions."""
    return lambda node, inputs, part: f"np.{function}({inputs[0]})"


def _method(call: str) -> Writer:
    """Return a writer for a method of the input."""
    return lambda node, inputs, part: f"{inputs[0]}.{call}"


def _positions(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    return f"{inputs[0]} + {part('weight')}"


def _with_parameters(function: str, *parts: str, **fields: str) -> Writer:
    """Return a writer for a function of the input, the layer's arrays named in `parts`, and some of its fields."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        arrays = [part(name) for name in parts if name in node.params or name in node.state]
        return call(function, *inputs, *arrays, **{name: getattr(node.layer, field) for name, field in fields.items()})

    return write


def _write_input(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    return inputs[0]


def _convolution(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    groups = getattr(layer, "groups", node.input_shapes[0][0])  # depthwise: as many as channels
    untied = "bias" in node.params and len(node.params["bias"].shape) == 3
    arrays = [part(name) for name in ("weight", "bias") if name in node.params and not (untied and name == "bias")]
    expression = call(
        "conv2d", *inputs, *arrays, **_window_arguments(windows), dilation=windows.dilation, groups=groups
    )
    return f"{expression} + {part('bias')}" if untied else expression


def _separable(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    groups = node.input_shapes[0][0]
    middle = call(
        "conv2d", *inputs, part("depthwise"), **_window_arguments(windows), dilation=windows.dilation, groups=groups
    )
    return call("conv2d", middle, *(part(name) for name in ("pointwise", "bias") if name in node.params))


def _transposed(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    arrays = [part(name) for name in ("weight", "bias") if name in node.params]
    return call(
        "conv_transpose2d",
        *inputs,
        *arrays,
        stride=windows.stride,
        cut=windows.padding,
        more=layer.output_padding,
        dilation=windows.dilation,
        groups=layer.groups,
    )


def _window_arguments(windows: Any) -> dict[str, Any]:
    return {"stride": windows.stride, "padding": windows.padding}


def _pool(function: str) -> Writer:
    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        layer: Any = node.layer
        windows = layer.windows(node.input_shapes[0])
        more = {"p": layer.p} if function == "lp_pool2d" else {}
        return call(function, *inputs, kernel=windows.kernel, **_window_arguments(windows), **more)

    return write


def _avg_pool(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    counted = counted_padding(node)
    return call("avg_pool2d", *inputs, kernel=windows.kernel, **_window_arguments(windows), counted=counted)


def _group_norm(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    groups = layer.count(node.input_shapes[0][0])
    return _grouped(node, inputs, part, groups)


def _grouped(node: Node, inputs: Sequence[str], part: Callable[[str], str], groups: int) -> str:
    layer: Any = node.layer
    return call("group_norm", *inputs, part("weight"), part("bias"), groups=groups, epsilon=layer.epsilon)


def _layer_norm(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    if layer.over == "map" and len(node.shape) == 3:
        return _grouped(node, inputs, part, 1)
    return call("layer_norm", *inputs, part("weight"), part("bias"), epsilon=layer.epsilon)


def _positional(function: str, field: str) -> Writer:
    """Return a writer for a function whose last arguments are the elements of a tuple field of the layer."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        return f"{function}({', '.join([*inputs, *map(str, getattr(node.layer, field))])})"

    return write


def _gelu(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return call("gelu" if layer.approximate == "none" else "gelu_tanh", *inputs)


def _upsample(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return call("upsample2d" if layer.mode == "nearest" else "upsample2d_bilinear", *inputs, scale=layer.scale)


def _crop(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    (_, h, w), (top, bottom, left, right) = node.input_shapes[0], layer.cropping
    return f"{inputs[0]}[:, :, {top}:{h - bottom}, {left}:{w - right}]"


def _infix(operator: str) -> Writer:
    """Return a writer for an operator, or a NumPy function of two, over all inputs; vectors become 1x1 maps."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        shapes = zip(inputs, node.input_shapes, strict=True)
        operands = [x if len(shape) == len(node.shape) else f"{x}[:, :, None, None]" for x, shape in shapes]
        if not operator.startswith("np."):
            return f" {operator} ".join(operands)
        return reduce(lambda left, right: f"{operator}({left}, {right})", operands)

    return write


def _clip(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return f"np.clip({inputs[0]}, {layer.min}, {layer.max})"


def _scale_shift(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    given = [name for name in ("scale", "shift") if getattr(layer, name) is not None]
    arrays = [f"{name}={part(name) if layer.learned else getattr(layer, name)}" for name in given]
    return call("scale_shift", *inputs, *arrays)


def _slice(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    parts = [
        f"{of.start}:{of.stop}" + (f":{of.step}" if of.step > 1 else "") for of in layer.slices(node.input_shapes[0])
    ]
    return f"{inputs[0]}[:, {', '.join(parts)}]"


WRITERS: Mapping[str, Writer] = {
    "adaptive_avg_pool2d": _plain("adaptive_avg_pool2d", size="output_size"),
    "abs": _numpy("abs"),
    "add": _infix("+"),
    "avg_pool2d": _avg_pool,
    "batch_norm": _with_parameters(
        "batch_norm", "weight", "bias", "running_mean", "running_variance", epsilon="epsilon"
    ),
    "channel_shuffle": _plain("channel_shuffle", groups="groups"),
    "channel_max": _method("max(1, keepdims=True)"),
    "channel_mean": _method("mean(1, keepdims=True)"),
    "clip": _clip,
    "concat": _plain("concat"),
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "crop2d": _crop,
    "dense": _with_parameters("dense", "weight", "bias"),
    "depthwise_conv2d": _convolution,
    "elu": _plain("elu", alpha="alpha"),
    "exp": _numpy("exp"),
    "flatten": _plain("flatten"),
    "gelu": _gelu,
    "global_avg_pool2d": _plain("global_avg_pool2d"),
    "global_max_pool2d": _plain("global_max_pool2d"),
    "group_norm": _group_norm,
    "hard_sigmoid": _plain("hard_sigmoid"),
    "hard_swish": _plain("hard_swish"),
    "input": lambda node, inputs, part: taken(inputs[0], node),
    "instance_norm": _group_norm,
    "layer_norm": _layer_norm,
    "leaky_relu": _plain("leaky_relu", slope="negative_slope"),
    "local_response_norm": _plain("local_response_norm", size="size", alpha="alpha", beta="beta", k="k"),
    "lp_pool2d": _pool("lp_pool2d"),
    "max_pool2d": _pool("max_pool2d"),
    "maximum": _infix("np.maximum"),
    "minimum": _infix("np.minimum"),
    "mish": _plain("mish"),
    "multiply": _infix("*"),
    "pad2d": _plain("pad2d", padding="padding", mode="mode"),
    "permute": _positional("permute", "order"),
    "pixel_shuffle": _plain("pixel_shuffle", factor="factor"),
    "positions": _positions,
    "prelu": _with_parameters("prelu", "weight"),
    "relu": _plain("relu"),
    "relu6": _plain("relu6"),
    "reshape": _positional("reshape", "shape"),
    "rms_norm": _with_parameters("rms_norm", "weight", epsilon="epsilon"),
    "scale_shift": _scale_shift,
    "selu": _plain("selu"),
    "separable_conv2d": _separable,
    "sigmoid": _plain("sigmoid"),
    "silu": _plain("silu"),
    "slice": _slice,
    "softmax": _plain("softmax"),
    "softplus": _plain("softplus"),
    "square": _numpy("square"),
    "subtract": _infix("-"),
    "tanh": _numpy("tanh"),
    "upsample2d": _upsample,
    "zero_pad2d": _plain("zero_pad2d", padding="padding", channels="channels"),
}
