"""A trained network as a Keras model: readable source code, and its weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from cnnspec.export.copied_functions import copied
from cnnspec.export.exported_network import ExportedNetwork, labels, written_with
from cnnspec.export.keras_layers import CLASSES, OWN, WRITERS, tied_batch_norm
from cnnspec.export.numpy_program import prepare_function
from cnnspec.export.straight_line import (
    INPUTS,
    assignment,
    batch_of,
    entering,
    in_units,
    leaving,
    results,
    variables_of,
)
from cnnspec.graph import INPUT
from cnnspec.graph.identifiers import identifiers
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

RESERVED = {INPUTS, "keras", "layers", "ops", "np", "Path", "model", *CLASSES}
UNWRITTEN = {"input_layer", "add", "subtract", "multiply", "true_divide", "power", "get_item"}  # for x + y, x[i]

SOURCE = '''\
"""{title} in Keras 3; its trained weights are in {archive} beside this file (pip install keras, and a backend of it).

    model = load()
    outputs = model({entry})  # {output}
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers{ops}

STORED = Path(__file__).with_suffix(".npz")
{constants}{classes}

def network() -> keras.Model:
    """Numbers {input} to outputs {output}; {count:,} parameters."""
    inputs = {shape}
{lines}
{result}


def load(path: str | Path = STORED) -> keras.Model:
    """The network with its trained weights."""
    model = network()
    with np.load(path, allow_pickle=False) as stored:
        for variable in model.weights:
            variable.assign(stored[variable.path])
    return model
{prepare}'''
PREPARE_INPUTS = '''

def prepare(inputs):
    """Bytes to numbers from 0 to 1; inputs of numbers stay as they are."""
{steps}
'''
PREPARE = '''

def prepare(images):
    """Bytes {given} to the numbers {shape} that the network takes."""
    images = np.moveaxis(images, -1, 1)
{steps}
    return np.moveaxis(images, 1, -1)


{functions}'''


def source(network: Network, name: str, *, raw: bool) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.npz.

    RunError with all layers, or with the steps of the preprocessing, that have no counterpart here.
    """
    refusal = "no counterpart of {} in Keras is known here"
    found = written_with(network, WRITERS, refusal, "export --format onnx")
    graph = found.graph
    lines, result, arrays = _network(found)
    pipeline, prepare = None if raw else network.pipeline, ""
    if pipeline is not None and found.inputs:
        function, _, _ = prepare_function(pipeline, graph.input_shape)
        prepare = PREPARE_INPUTS.format(steps="\n".join(function.rstrip().splitlines()[2:]))
    elif pipeline is not None:
        given = pipeline.shape or graph.input_shape
        function, used, stored = prepare_function(pipeline, given)
        steps = re.sub(r'W\["(.*?)"\]', r'stored["\1"]', "\n".join(function.rstrip().splitlines()[2:]))
        functions = "\n\n".join(copied(used, "numpy_functions.py"))
        if stored:
            steps = f"    stored = np.load(STORED)\n{steps}"
        prepare = PREPARE.format(
            given=_last(given),
            shape=_last(graph.input_shape),
            steps=steps.replace("return ", "images = "),
            functions=functions.replace("Array", "np.ndarray").replace("Ints", "tuple[int, ...]"),
        )
        arrays |= stored
    body = "\n".join([*lines, result])
    inputs = {name: f"keras.Input({_turned(shape)}, name={json.dumps(name)})" for name, shape in found.inputs.items()}
    named = ", ".join(f"{json.dumps(name)}: {made}" for name, made in inputs.items())
    classes = "\n\n".join(text for called, text in CLASSES.items() if f"{called}(" in body)
    names = labels(network)
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        entry=f"prepare({INPUTS if found.inputs else 'images'})" if pipeline else INPUTS if found.inputs else "x",
        ops=", ops" if "ops." in body + classes else "",
        constants=f"CLASSES = {json.dumps(names, ensure_ascii=False)}\n" if names else "",
        classes=f"\n\n{classes}" if classes else "",
        input=entering(found.inputs, graph.input_shape, _last),
        output=leaving(found.outputs, _last),
        shape=f"{{{named}}}" if named else f"keras.Input({_turned(graph.input_shape)})",
        count=graph.parameter_count,
        lines="\n".join(lines),
        result=result,
        prepare=prepare,
    )
    return text.rstrip() + "\n", arrays


def _turned(shape: Shape) -> Shape:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def _last(shape: Shape) -> str:
    return batch_of(_turned(shape))


def _network(found: ExportedNetwork) -> tuple[list[str], str, dict[str, Array]]:
    """Return the lines that build the network from `inputs`, what it gives, and the arrays by Keras's names."""
    graph, values = found.graph, found.values
    variables = variables_of(graph, RESERVED, found.outputs)
    owners = [node.share or node.name for node in graph.nodes]
    tied = {node.share for node in graph.nodes if node.share and node.state}
    written = [
        (tied_batch_norm if owner in tied else WRITERS[node.layer.type_name])(
            node, [variables[name] for name in node.inputs]
        )
        for node, owner in zip(graph.nodes, owners, strict=True)
    ]
    names = _layer_names(owners, [made.call for made in written])
    several = [owner for owner, count in Counter(owners).items() if count > 1]
    objects = identifiers([f"{owner}_layer" for owner in several], {*RESERVED, *variables.values()})
    lines = [] if found.inputs else [f"    {variables[INPUT]} = inputs"]
    arrays: dict[str, Array] = {}
    made: set[str] = set()  # owners whose layer object is written; unused nodes are left out
    for node, owner, parts in zip(graph.nodes, owners, written, strict=True):
        layer = ""
        if parts.layer:
            separator = "" if parts.layer.endswith("(") else ", "
            layer = f'{parts.layer}{separator}name="{names[owner]}")'
        if owner not in made:
            made.add(owner)
            for variable, (part, order) in parts.arrays.items():
                key = node.keys.get(part, f"{node.name}.{part}")
                arrays[f"{names[owner]}/{variable}"] = np.ascontiguousarray(order(values[key]))
            if owner in several:
                lines.append(f"    {objects[f'{owner}_layer']} = {layer}")
        for part, variable in parts.own.items():
            arrays[f"{node.name}{OWN}/{variable}"] = values[f"{node.name}.{part}"]
        layer_name = objects.get(f"{owner}_layer", layer)
        lines += assignment(
            variables[node.name], parts.call.format(layer=layer_name) if layer else parts.call, _turned(node.shape)
        )
    ends = results("return keras.Model(inputs, ", found.outputs, variables, in_units("ops.array"), ")")
    return lines, "\n".join(ends), arrays


def _layer_names(owners: Iterable[str], calls: Iterable[str]) -> dict[str, str]:
    """Return a name in Keras for each layer with arrays, different from all names that Keras generates."""
    called = re.findall(r"\b(?:layers|ops)\.(\w+)\(", "".join((*calls, *CLASSES.values())))
    automatic = UNWRITTEN | {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in called}
    owner_names = [*identifiers(owners).values()]
    return identifiers(owners, [name for name in owner_names if re.sub(r"_\d+$", "", name) in automatic])
