"""A trained network as a program that needs only NumPy: readable straight-line inference, and its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cnnspec.data.decode import MODES
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.copied_functions import copied
from cnnspec.export.numpy_layers import call, network_lines, parameter_keys
from cnnspec.export.plain_weights import with_plain_weights
from cnnspec.export.straight_line import WIDTH, batch_of
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

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
    try:
        for path in sys.argv[1:]:
            for output in network(prepare(read(path))):
                print(f"{{path}}: {{answer(output)}}")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {{path}}: {{error}}")
'''
NO_PIPELINE = '''\
def prepare(images: Array) -> Array:
    """Images as the network takes them: as they are."""
    return images

'''


def program(network: Network, name: str) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.npz; RunError with all layers that cannot be expressed."""
    graph, values = with_plain_weights(network.graph, dict(network.weights.arrays()))
    graph = remove_dead_nodes(remove_train_only(graph.answering))
    lines, used = network_lines(graph, "NumPy program")
    if network.target.mean:
        lines[-1:] = [f"    x = {lines[-1].split('return ')[1]}"]
        lines += ["    return (x * DEVIATION + MEAN).astype(x.dtype)  # in the units of the data"]
    pipeline = network.pipeline
    shape = graph.input_shape if pipeline is None else pipeline.shape or graph.input_shape
    constants, answer, needed = _answer(network)
    prepare, steps, arrays = (NO_PIPELINE, set(), {}) if pipeline is None else prepare_function(pipeline, shape)
    read, reading = _read(pipeline, shape)
    functions = "\n\n".join(copied(used | needed | steps | reading, "numpy_functions.py"))
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
    return text, {key: values[key] for key in sorted(parameter_keys(graph))} | arrays


def prepare_function(pipeline: Pipeline, shape: Shape) -> tuple[str, set[str], dict[str, Array]]:
    """Return the source of the function that prepares decoded images, the functions it calls, and its arrays."""
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
                padded = call("pad", "images", padding=(top, bottom, left, right), value=transform.value)
                lines.append(f"    images = {padded}  # {batch_of(shape)}")
                used.add("pad")
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                name = transform.type_name
                raise RunError(f"the NumPy program has no words for {name}", "export a spec without it in preprocess")
    scale, shift = (_constant(values) for values in pipeline.affine)
    description = f'"""Bytes {batch_of(given)} to numbers {batch_of(shape)}."""'
    lines = [
        "def prepare(images: Array) -> Array:",
        f"    {description}",
        *lines,
        f"    return images * {scale} + {shift}",
    ]
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
    """Return the constants, the body of the function `answer`, and the functions that it calls."""
    kind, count, used = network.learned.kind, network.graph.output.shape[0], set[str]()
    constants: list[str] = []
    given = network.class_names
    binary = count == 1 and network.loss is not None and network.loss.one_output
    outputs = max(count, 2) if binary and kind in ("class", "mask") else count
    if network.target.mean:
        units = {"MEAN": network.target.mean, "DEVIATION": network.target.deviation}
        constants += [f"{name} = np.array({list(numbers)})" for name, numbers in units.items()]
    names = [*map(str, given), *map(str, range(len(given), outputs))][:outputs]
    if kind != "input" and (kind != "class" or len(network.graph.output.shape) == 1):
        constants += _list_assignment("NAMES", names)
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


def _list_assignment(name: str, values: Sequence[str]) -> list[str]:
    """Return an assignment of a list, on as many lines as necessary."""
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
