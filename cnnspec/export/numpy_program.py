"""A trained network as a program that needs only NumPy: readable straight-line inference, and its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cnnspec.data.decode import MODES
from cnnspec.data.inputs import Inputs
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.copied_functions import copied
from cnnspec.export.exported_network import ExportedNetwork, Output, exported_network
from cnnspec.export.numpy_layers import call, network_lines, parameter_keys
from cnnspec.export.straight_line import INPUTS, WIDTH, batch_of, entering, leaving
from cnnspec.graph.identifiers import identifiers
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss
from cnnspec.shapes import Shape
from cnnspec.target import Kind
from cnnspec.train.network import Network

PROGRAM = '''\
"""{title}: a trained network in NumPy alone; its weights are in {archive} beside this file.

    python {file} {usage}

In Python, network(prepare({entry})) are its outputs.
"""

from __future__ import annotations

{imports}

Array, Ints = np.ndarray, Sequence[int]
W = dict(np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False))
{constants}

def network({x}) -> {made}:
    """Numbers {input}, as `prepare` makes them, to outputs {output}."""
{network}

{prepare}
{read}

{answer}

{functions}

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {{sys.argv[0]}} {given} ...")
    try:
        for path in sys.argv[1:]:
            for output in {answers}:
                print(f"{{path}}: {{answer(output)}}")
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"cannot read {{path}}: {{error}}{{', part of Pillow' if isinstance(error, ImportError) else ''}}")
'''
READ = '''\
def read(path: str) -> Array:
    """Images as bytes {images}: one picture, or an array of one or more."""
    if path.endswith(".npy"):
        images = np.load(path, allow_pickle=False)
        if images.dtype != np.uint8 or images.shape[-{axes}:] != {shape}:
            sys.exit(f"{{path}}: expected bytes (uint8) {images}, got {{images.dtype}} {{images.shape}}")
        return images.reshape(-1, *{shape})
{read}'''
READ_INPUTS = '''\
def read(path: str) -> dict[str, Array]:
    """The arrays of an .npz file: {inputs}."""
    if not path.endswith(".npz"):
        sys.exit(f"{{path}}: expected an .npz file with arrays {{', '.join(SHAPES)}}")
    with np.load(path, allow_pickle=False) as file:
        inputs = {{name: file[name] for name in SHAPES if name in file}}
    for name, shape in SHAPES.items():
        kind = "bytes (uint8)" if name in PIXELS else "numbers"
        if name not in inputs or inputs[name].shape[1:] != shape or (name in PIXELS and inputs[name].dtype != np.uint8):
            got = f"{{inputs[name].dtype}} {{inputs[name].shape}}" if name in inputs else "none"
            sys.exit(f"{{path}}: expected {{name}}, {{kind}} (n, {{', '.join(map(str, shape))}}), got {{got}}")
    return inputs
'''
ANSWER = '''\
def {function}(output: Array) -> str:
    """What one image's output{which} says."""
{body}'''
EACH = '''\
def answer(output: dict[str, Array]) -> str:
    """What the outputs for one image say."""
    said = {functions}
    return "; ".join(f"{{name}}: {{said[name](output[name])}}" for name in said)


def each(outputs: dict[str, Array]) -> list[dict[str, Array]]:
    """The outputs for one image at a time."""
    return [dict(zip(outputs, of)) for of in zip(*outputs.values())]
'''
NO_PIPELINE = '''\
def prepare(images: {type}) -> {type}:
    """What the network takes, as it is."""
    return images

'''


def program(network: Network, name: str) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.npz; RunError with all layers that cannot be expressed."""
    found = exported_network(network, at_inference=True)
    graph, pipeline = found.graph, network.pipeline
    lines, used = network_lines(found, "NumPy program", _unscaling(found))
    shape = graph.input_shape if pipeline is None else pipeline.shape or graph.input_shape
    constants, answer, needed = _answers(network, found)
    if found.inputs:
        shapes = ", ".join(f"{json.dumps(name)}: {shape}" for name, shape in found.inputs.items())
        pixels = sorted(pipeline.inputs.pixels or ()) if pipeline is not None else []
        constants = [f"SHAPES = {{{shapes}}}  # of one image", *_list_assignment("PIXELS", pixels), *constants]
    type = "dict[str, Array]" if found.inputs else "Array"
    prepare, steps, arrays = (
        (NO_PIPELINE.format(type=type), set(), {}) if pipeline is None else prepare_function(pipeline, shape)
    )
    read, reading = _read(pipeline, shape, found)
    functions = "\n\n".join(copied(used | needed | steps | reading, "numpy_functions.py"))
    imports = [f"import {module}" for module in ("functools", "math") if f"{module}." in functions]
    imports += [
        "import sys",
        "from collections.abc import Sequence",
        "from pathlib import Path",
        "",
        "import numpy as np",
    ]
    answers = "network(prepare(read(path)))"
    text = PROGRAM.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        file=f"{name}.py",
        imports="\n".join(imports),
        constants="".join(f"{line}\n" for line in constants),
        usage=_usage(pipeline, shape, found),
        entry="inputs" if found.inputs else "images",
        x=f"{INPUTS if found.inputs else 'x'}: {type}",
        made="dict[str, Array]" if found.several else "Array",
        input=entering(found.inputs, graph.input_shape),
        output=leaving(found.outputs),
        network="\n".join(lines) + "\n",
        prepare=prepare,
        read=read,
        answer=answer,
        answers=f"each({answers})" if found.several else answers,
        given="NPZ" if found.inputs else "PICTURE_OR_NPY",
        functions=functions,
    )
    return text, {key: found.values[key] for key in sorted(parameter_keys(graph))} | arrays


def _unscaling(found: ExportedNetwork) -> Callable[[str, Output], str]:
    """Return the function that writes a value in the units of the data; those of a single output are constants."""

    def unscaled(x: str, output: Output) -> str:
        if not found.several:
            return f"({x} * DEVIATION + MEAN).astype({x}.dtype)"
        deviation, mean = list(output.deviation), list(output.mean)
        return f"({x} * np.array({deviation}) + np.array({mean})).astype({x}.dtype)"

    return unscaled


def _usage(pipeline: Pipeline | None, shape: Shape, found: ExportedNetwork) -> str:
    if found.inputs:
        return f"inputs.npz        with arrays {entering(found.inputs, shape)}"
    return f"picture.png      pictures need Pillow; .npy files hold bytes {batch_of(shape)}"


def prepare_function(pipeline: Pipeline, shape: Shape) -> tuple[str, set[str], dict[str, Array]]:
    """Return the source of the function that prepares decoded images, the functions it calls, and its arrays."""
    if pipeline.inputs:
        return _prepared_inputs(pipeline.inputs), set(), {}
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


def _prepared_inputs(inputs: Inputs) -> str:
    pixels = inputs.pixels or frozenset()
    taken = {name: f"inputs[{json.dumps(name)}]" for name in inputs.shapes}
    pairs = [f"{json.dumps(name)}: {x}{' / np.float32(255)' if name in pixels else ''}" for name, x in taken.items()]
    return (
        "def prepare(inputs: dict[str, Array]) -> dict[str, Array]:\n"
        '    """Bytes to numbers from 0 to 1; inputs of numbers stay as they are."""\n'
        f"    return {{{', '.join(pairs)}}}\n\n"
    )


def _constant(values: Array) -> str:
    numbers = values.tolist()
    if len(set(numbers)) == 1:
        return f"np.float32({numbers[0]!r})"
    return f"np.array({numbers}, np.float32).reshape(-1, 1, 1)"


def _read(pipeline: Pipeline | None, shape: Shape, found: ExportedNetwork) -> tuple[str, set[str]]:
    """Return the function that reads what is named on the command line, and the functions that it calls."""
    if found.inputs:
        return READ_INPUTS.format(inputs=entering(found.inputs, shape)), set()
    images = batch_of(shape)
    if pipeline is None or len(shape) != 3 or shape[0] not in (1, 3):
        body, used = f'    sys.exit(f"{{path}}: expected an .npy file with bytes {images}")\n', set[str]()
    else:
        rules = pipeline.rules_of(shape)
        assert rules.mode is not None
        body = f'    return read_picture(path, "{MODES[rules.mode]}", {shape[1:]}, {rules.background})\n'
        used = {"read_picture"}
    return READ.format(images=images, axes=len(shape), shape=shape, read=body), used


def _answers(network: Network, found: ExportedNetwork) -> tuple[list[str], str, set[str]]:
    """Return the constants, the functions that say what outputs mean, and the functions that these call."""
    if not found.several:
        (output,) = found.outputs
        names = tuple(map(str, network.class_names))
        constants, body, used = _answer(network.learned.kind, network.loss, output.shape, names, "NAMES")
        if output.mean:
            units = {"MEAN": output.mean, "DEVIATION": output.deviation}
            constants = [*(f"{name} = np.array({list(numbers)})" for name, numbers in units.items()), *constants]
        return constants, ANSWER.format(function="answer", which="", body=body), used
    assert network.heads is not None
    constants, written, used = list[str](), list[str](), set[str]()
    called = identifiers([f"answer_{output.name}" for output in found.outputs])
    for output in found.outputs:
        part, function = network.heads.parts[output.name], called[f"answer_{output.name}"]
        names = tuple(part.target.names)
        more, body, calls = _answer(part.target.kind, part.loss, output.shape, names, f"NAMES_{function[7:].upper()}")
        constants, used = [*constants, *more], used | calls
        written.append(ANSWER.format(function=function, which=f" {output.name}", body=body))
    functions = ", ".join(f"{json.dumps(output.name)}: {called[f'answer_{output.name}']}" for output in found.outputs)
    return constants, "\n\n".join([*written, EACH.format(functions=f"{{{functions}}}")]), used


def _answer(
    kind: Kind, loss: Loss | None, shape: Shape, given: Sequence[str], constant: str
) -> tuple[list[str], str, set[str]]:
    """Return the constants, the body of the function that says what an output means, and the functions it calls.

    `given` are names of classes or values, and `constant` is what the program calls all of them.
    """
    count, used, constants = shape[0], set[str](), list[str]()
    binary = count == 1 and loss is not None and loss.one_output
    outputs = max(count, 2) if binary and kind in ("class", "mask") else count
    names = [*given, *map(str, range(len(given), outputs))][:outputs]
    if kind != "input" and (kind != "class" or len(shape) == 1):
        constants += _list_assignment(constant, names)
    if kind == "values":
        pairs = f"zip({constant}, output)"
        return constants, f'    return "  ".join(f"{{name}} {{value:.6g}}" for name, value in {pairs})\n', used
    if kind == "mask":
        threshold = 0.5 if loss is None else loss.threshold
        chosen = "output.argmax(0)" if count > 1 else f"(output[0] > {threshold}).astype(int)"
        lines = [
            f"    areas = np.bincount({chosen}.ravel(), minlength=len({constant})) / output[0].size",
            f'    return "  ".join(f"{{name}} {{area:.2%}}" for name, area in zip({constant}, areas) if area)',
        ]
        return constants, "\n".join(lines) + "\n", used
    if len(shape) != 1:
        return constants, '    return f"output of shape {output.shape}, mean {output.mean():.4g}"\n', used
    applies = loss.applies if loss is not None else None
    scores = {"softmax": "softmax(output[None])[0]", "sigmoid": "sigmoid(output)", None: "output"}[applies]
    used |= {applies} if applies else set()
    lines = [f"    scores = {scores}"]
    if kind == "classes":
        lines += [
            "    best = [i for i in np.argsort(-scores) if scores[i] >= 0.5]",
            f'    return "  ".join(f"{{{constant}[i]}} {{scores[i]:.2%}}" for i in best) or "no label"',
        ]
    else:
        lines += ["    scores = np.array([1 - scores[0], scores[0]])"] if binary else []
        lines += [
            '    best = np.argsort(-scores, kind="stable")[:3]',
            f'    return "  ".join(f"{{{constant}[i]}} {{scores[i]:.2%}}" for i in best)',
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
