"""A trained network as a program for NumPy alone: straight-line inference for people to read, and its weights."""

from __future__ import annotations

import dis
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from types import CodeType, FunctionType
from typing import Any

from cnnspec.data.decode import MODES
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export import numpy_functions
from cnnspec.export.counted_padding import counted_padding
from cnnspec.export.straight_line import WIDTH, assignment, batch_of, variables_of
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

Writer = Callable[[Node, Sequence[str], Callable[[str], str]], str]

PROGRAM = '''\
"""{title}: a trained network in NumPy alone; its weights are in {archive} beside this file.

    python {file} picture.png      pictures need Pillow; .npy files hold bytes {images}

In Python, network(prepare(images)) are its outputs.
"""

from __future__ import annotations

{imports}

Array, Ints = np.ndarray, Sequence[int]
W = dict(np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False))
{constants}

def network(x: Array) -> Array:
    """Numbers {input}, as `prepare` makes them, to outputs {output}."""
{network}

{prepare}
def read(path: str) -> Array:
    """Images as bytes {images}: one picture, or an array of one or more."""
    if path.endswith(".npy"):
        images = np.load(path, allow_pickle=False)
        if images.dtype != np.uint8 or images.shape[-{axes}:] != {shape}:
            sys.exit(f"{{path}}: expected bytes (uint8) {images}, got {{images.dtype}} {{images.shape}}")
        return images.reshape(-1, *{shape})
{read}

def answer(output: Array) -> str:
    """What one image's output says."""
{answer}

{functions}

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {{sys.argv[0]}} PICTURE_OR_NPY ...")
    for path in sys.argv[1:]:
        for output in network(prepare(read(path))):
            print(f"{{path}}: {{answer(output)}}")
'''
NO_PIPELINE = '''\
def prepare(images: Array) -> Array:
    """Images as the network takes them: as they are."""
    return images

'''


def program(network: Network, name: str) -> tuple[str, dict[str, Array]]:
    """The source of NAME.py and the arrays of NAME.npz; RunError with all that it has no words for."""
    graph = remove_dead_nodes(remove_train_only(network.graph.answering))
    lines, used = _network(graph)
    values = dict(network.weights.arrays())
    keys = {_key(node, part) for node in graph.nodes for part in (*node.params, *node.state)}
    if network.target.mean:
        lines[-1:] = [f"    x = {lines[-1].split('return ')[1]}"]
        lines += ["    return (x * DEVIATION + MEAN).astype(x.dtype)  # in the units of the data"]
    pipeline = network.pipeline
    shape = graph.input_shape if pipeline is None else pipeline.shape or graph.input_shape
    constants, answer, needed = _answer(network)
    prepare, steps, arrays = (NO_PIPELINE, set(), {}) if pipeline is None else _prepare(pipeline, shape)
    read, reading = _read(pipeline, shape)
    functions = "\n\n".join(_sources(used | needed | steps | reading))
    imports = [f"import {module}" for module in ("functools", "math") if f"{module}." in functions]
    imports += [
        "import sys",
        "from collections.abc import Sequence",
        "from pathlib import Path",
        "",
        "import numpy as np",
    ]
    text = PROGRAM.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        file=f"{name}.py",
        imports="\n".join(imports),
        constants="".join(f"{line}\n" for line in constants),
        images=batch_of(shape),
        input=batch_of(graph.input_shape),
        output=batch_of(graph.output.shape),
        network="\n".join(lines) + "\n",
        prepare=prepare,
        axes=len(shape),
        shape=shape,
        read=read,
        answer=answer,
        functions=functions,
    )
    return text, {key: values[key] for key in sorted(keys)} | arrays


def _network(graph: Graph) -> tuple[list[str], set[str]]:
    """The body of the function that computes the network, and the functions that it calls."""
    strange = sorted({node.layer.type_name for node in graph.nodes if not node.layer.train_only} - WRITERS.keys())
    if strange:
        raise RunError(f"the NumPy program has no words for {', '.join(strange)}", "export a spec without such layers")
    variables = variables_of(graph, {"W", *vars(numpy_functions)})
    lines, used = [], set[str]()
    if variables[INPUT] != "x":
        lines.append(f"    {variables[INPUT]} = x")
    for node in graph.nodes:
        inputs = [variables[name] for name in node.inputs]
        write = WRITERS.get(node.layer.type_name, _nothing)
        expression = write(node, inputs, partial(_parameter, node))
        used |= set(re.findall(r"\b([a-z_0-9]+)\(", expression)) & vars(numpy_functions).keys()
        lines += assignment(variables[node.name], expression, node.shape)
    lines.append(f"    return {variables[graph.output.name]}")
    return lines, used


def _sources(names: set[str]) -> list[str]:
    """The source of these functions, and of those that they call, as they stand in their file."""
    functions = {name: value for name, value in vars(numpy_functions).items() if isinstance(value, FunctionType)}
    waiting, found = sorted(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            waiting += _globals_of(functions[name].__code__)
    return [inspect.getsource(function) for name, function in functions.items() if name in found]


def _globals_of(code: CodeType) -> set[str]:
    """The names outside of a function that its code reads."""
    inner = [_globals_of(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*inner)


def _prepare(pipeline: Pipeline, shape: Shape) -> tuple[str, set[str], dict[str, Array]]:
    """The function that does what the pipeline does behind the decoding, the functions that it calls, its arrays."""
    given, lines, used, values = shape, list[str](), set[str](), dict[str, Array]()
    for position, transform in enumerate(pipeline.preprocess, 1):
        before, shape = shape, transform.infer_shape(shape)
        match transform:
            case Resize():
                down, across = (f"resize_{position}.{axis}" for axis in ("down", "across"))
                values[down], values[across] = resampling(before, shape)
                lines.append(f'    images = resize(images, W["{down}"], W["{across}"])  # {batch_of(shape)}')
                used.add("resize")
            case Pad():
                (top, bottom), (left, right) = transform.sides()
                call = _call("pad", "images", padding=(top, bottom, left, right), value=transform.value)
                lines.append(f"    images = {call}  # {batch_of(shape)}")
                used.add("pad")
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                name = transform.type_name
                raise RunError(f"the NumPy program has no words for {name}", "export a spec without it in preprocess")
    scale, shift = (_constant(values) for values in pipeline.affine)
    what = f'"""Bytes {batch_of(given)} to numbers {batch_of(shape)}."""'
    lines = ["def prepare(images: Array) -> Array:", f"    {what}", *lines, f"    return images * {scale} + {shift}"]
    return "\n".join(lines) + "\n\n", used, values


def _constant(values: Array) -> str:
    numbers = values.tolist()
    if len(set(numbers)) == 1:
        return f"np.float32({numbers[0]!r})"
    return f"np.array({numbers}, np.float32).reshape(-1, 1, 1)"


def _read(pipeline: Pipeline | None, shape: Shape) -> tuple[str, set[str]]:
    if pipeline is None or len(shape) != 3 or shape[0] not in (1, 3):
        return f'    sys.exit(f"{{path}}: expected an .npy file with bytes {batch_of(shape)}")\n', set()
    rules = pipeline.rules_of(shape)
    assert rules.mode is not None
    return f'    return read_picture(path, "{MODES[rules.mode]}", {shape[1:]}, {rules.background})\n', {"read_picture"}


def _answer(network: Network) -> tuple[list[str], str, set[str]]:
    """Constants, the body of `answer`, and the functions that it calls."""
    kind, count, used = network.learned.kind, network.graph.output.shape[0], set[str]()
    constants: list[str] = []
    given = (network.pipeline.classes if network.pipeline else ()) or network.target.names
    binary = count == 1 and network.loss is not None and network.loss.one_output
    outputs = max(count, 2) if binary and kind in ("class", "mask") else count
    if network.target.mean:
        units = {"MEAN": network.target.mean, "DEVIATION": network.target.deviation}
        constants += [f"{name} = np.array({list(numbers)})" for name, numbers in units.items()]
    names = [*map(str, given), *map(str, range(len(given), outputs))][:outputs]
    if kind != "input" and (kind != "class" or len(network.graph.output.shape) == 1):
        constants += _listed("NAMES", names)
    if kind == "values":
        return constants, '    return "  ".join(f"{name} {value:.6g}" for name, value in zip(NAMES, output))\n', used
    if kind == "mask":
        threshold = 0.5 if network.loss is None else network.loss.threshold
        chosen = "output.argmax(0)" if count > 1 else f"(output[0] > {threshold}).astype(int)"
        lines = [
            f"    areas = np.bincount({chosen}.ravel(), minlength=len(NAMES)) / output[0].size",
            '    return "  ".join(f"{name} {area:.2%}" for name, area in zip(NAMES, areas) if area)',
        ]
        return constants, "\n".join(lines) + "\n", used
    if len(network.graph.output.shape) != 1:
        return constants, '    return f"output of shape {output.shape}, mean {output.mean():.4g}"\n', used
    applies = network.loss.applies if network.loss is not None else None
    scores = {"softmax": "softmax(output[None])[0]", "sigmoid": "sigmoid(output)", None: "output"}[applies]
    used |= {applies} if applies else set()
    lines = [f"    scores = {scores}"]
    if kind == "classes":
        lines += [
            "    best = [i for i in np.argsort(-scores) if scores[i] >= 0.5]",
            '    return "  ".join(f"{NAMES[i]} {scores[i]:.2%}" for i in best) or "no label"',
        ]
    else:
        lines += ["    scores = np.array([1 - scores[0], scores[0]])"] if binary else []
        lines += [
            '    best = np.argsort(-scores, kind="stable")[:3]',
            '    return "  ".join(f"{NAMES[i]} {scores[i]:.2%}" for i in best)',
        ]
    return constants, "\n".join(lines) + "\n", used


def _listed(name: str, values: Sequence[str]) -> list[str]:
    """An assignment of a list, on as many lines as it needs."""
    line = f"{name} = [{', '.join(map(json.dumps, values))}]"
    if len(line) <= WIDTH:
        return [line]
    lines = [f"{name} = ["]
    row = "   "
    for value in values:
        if len(row) + len(json.dumps(value)) + 2 > WIDTH:
            lines.append(row)
            row = "   "
        row += f" {json.dumps(value)},"
    return [*lines, row, "]"]


def _parameter(node: Node, part: str) -> str:
    return f"W[{json.dumps(_key(node, part))}]"


def _key(node: Node, part: str) -> str:
    return node.keys.get(part, f"{node.name}.{part}")


def _call(function: str, *arguments: str, **named: Any) -> str:
    """A call in which arguments that have their defaults are left out."""
    defaults = inspect.signature(getattr(numpy_functions, function)).parameters
    given = [f"{name}={value!r}" for name, value in named.items() if value != defaults[name].default]
    return f"{function}({', '.join([*arguments, *given])})"


def _plain(function: str, **fields: str) -> Writer:
    """A function of the inputs, with fields of the layer."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        return _call(function, *inputs, **{name: getattr(node.layer, field) for name, field in fields.items()})

    return write


def _numpy(function: str) -> Writer:
    """A function of NumPy's own."""
    return lambda node, inputs, part: f"np.{function}({inputs[0]})"


def _method(call: str) -> Writer:
    """A method of the input."""
    return lambda node, inputs, part: f"{inputs[0]}.{call}"


def _positions(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    return f"{inputs[0]} + {part('weight')}"


def _with_parameters(function: str, *parts: str, **fields: str) -> Writer:
    """A function of the input, the parameters and states that the layer has of these, and fields of the layer."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        arrays = [part(name) for name in parts if name in node.params or name in node.state]
        return _call(function, *inputs, *arrays, **{name: getattr(node.layer, field) for name, field in fields.items()})

    return write


def _nothing(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    return inputs[0]


def _convolution(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    groups = getattr(layer, "groups", node.input_shapes[0][0])  # depthwise: as many as channels
    untied = "bias" in node.params and len(node.params["bias"].shape) == 3
    arrays = [part(name) for name in ("weight", "bias") if name in node.params and not (untied and name == "bias")]
    call = _call("conv2d", *inputs, *arrays, **_laid(laid), dilation=laid.dilation, groups=groups)
    return f"{call} + {part('bias')}" if untied else call


def _separable(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    groups = node.input_shapes[0][0]
    middle = _call("conv2d", *inputs, part("depthwise"), **_laid(laid), dilation=laid.dilation, groups=groups)
    return _call("conv2d", middle, *(part(name) for name in ("pointwise", "bias") if name in node.params))


def _transposed(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    arrays = [part(name) for name in ("weight", "bias") if name in node.params]
    return _call(
        "conv_transpose2d",
        *inputs,
        *arrays,
        stride=laid.stride,
        cut=laid.padding,
        more=layer.output_padding,
        dilation=laid.dilation,
        groups=layer.groups,
    )


def _laid(laid: Any) -> dict[str, Any]:
    return {"stride": laid.stride, "padding": laid.padding}


def _pool(function: str) -> Writer:
    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        layer: Any = node.layer
        laid = layer.windows(node.input_shapes[0])
        more = {"p": layer.p} if function == "lp_pool2d" else {}
        return _call(function, *inputs, kernel=laid.kernel, **_laid(laid), **more)

    return write


def _avg_pool(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    laid = layer.windows(node.input_shapes[0])
    counted = counted_padding(node)
    return _call("avg_pool2d", *inputs, kernel=laid.kernel, **_laid(laid), counted=counted)


def _group_norm(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    groups = layer.count(node.input_shapes[0][0])
    return _grouped(node, inputs, part, groups)


def _grouped(node: Node, inputs: Sequence[str], part: Callable[[str], str], groups: int) -> str:
    layer: Any = node.layer
    return _call("group_norm", *inputs, part("weight"), part("bias"), groups=groups, epsilon=layer.epsilon)


def _layer_norm(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    if layer.over == "map" and len(node.shape) == 3:
        return _grouped(node, inputs, part, 1)
    return _call("layer_norm", *inputs, part("weight"), part("bias"), epsilon=layer.epsilon)


def _positional(function: str, field: str) -> Writer:
    """A function that takes a tuple of the layer's as its last arguments."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        return f"{function}({', '.join([*inputs, *map(str, getattr(node.layer, field))])})"

    return write


def _gelu(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return _call("gelu" if layer.approximate == "none" else "gelu_tanh", *inputs)


def _upsample(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return _call("upsample2d" if layer.mode == "nearest" else "upsample2d_bilinear", *inputs, scale=layer.scale)


def _crop(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    (_, h, w), (top, bottom, left, right) = node.input_shapes[0], layer.cropping
    return f"{inputs[0]}[:, :, {top}:{h - bottom}, {left}:{w - right}]"


def _infix(operator: str) -> Writer:
    """An operator between all inputs, a function of two where it is a name; vectors act as maps of one pixel."""

    def write(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
        shapes = zip(inputs, node.input_shapes, strict=True)
        whole = [x if len(shape) == len(node.shape) else f"{x}[:, :, None, None]" for x, shape in shapes]
        if not operator.startswith("np."):
            return f" {operator} ".join(whole)
        return reduce(lambda left, right: f"{operator}({left}, {right})", whole)

    return write


def _clip(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    return f"np.clip({inputs[0]}, {layer.min}, {layer.max})"


def _scale_shift(node: Node, inputs: Sequence[str], part: Callable[[str], str]) -> str:
    layer: Any = node.layer
    given = [name for name in ("scale", "shift") if getattr(layer, name) is not None]
    arrays = [f"{name}={part(name) if layer.learned else getattr(layer, name)}" for name in given]
    return _call("scale_shift", *inputs, *arrays)


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
