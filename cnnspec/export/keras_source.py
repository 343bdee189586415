"""A trained network as a Keras model: readable source code, and its weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from cnnspec.export.copied_functions import copied
from cnnspec.export.keras_layers import CLASSES, WRITERS
from cnnspec.export.keras_windows import refuse_unless
from cnnspec.export.numpy_program import prepare_function
from cnnspec.export.plain_weights import answering
from cnnspec.export.straight_line import assignment, batch_of, listed, variables_of
from cnnspec.graph import INPUT, Graph
from cnnspec.graph.identifiers import identifiers
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

RESERVED = {"keras", "layers", "ops", "np", "Path", "model", "inputs", *CLASSES}
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
    inputs = keras.Input({shape})
{lines}
    return keras.Model(inputs, {result})


def load(path: str | Path = STORED) -> keras.Model:
    """The network with its trained weights."""
    model = network()
    with np.load(path, allow_pickle=False) as stored:
        for variable in model.weights:
            variable.assign(stored[variable.path])
    return model
{prepare}'''
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
    graph, values = answering(network, WRITERS, "no counterpart of {} in Keras is known here", "export --format onnx")
    lines, result, arrays = _network(graph, values)
    if network.target.mean:
        mean, deviation = listed(network.target.mean), listed(network.target.deviation)
        lines.append(f"    x = {result} * ops.array({deviation}) + ops.array({mean})  # in the units of the data")
        result = "x"
    pipeline, prepare = None if raw else network.pipeline, ""
    if pipeline is not None:
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
    body = "\n".join(lines)
    classes = "\n\n".join(text for called, text in CLASSES.items() if f"{called}(" in body)
    names = network.class_names
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        entry="prepare(images)" if pipeline is not None else "x",
        ops=", ops" if "ops." in body + classes else "",
        constants=f"CLASSES = {json.dumps(list(names), ensure_ascii=False)}\n" if names else "",
        classes=f"\n\n{classes}" if classes else "",
        input=_last(graph.input_shape),
        output=_last(graph.output.shape),
        shape=_turned(graph.input_shape),
        count=graph.parameter_count,
        lines=body,
        result=result,
        prepare=prepare,
    )
    return text.rstrip() + "\n", arrays


def _turned(shape: Shape) -> Shape:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def _last(shape: Shape) -> str:
    return batch_of(_turned(shape))


def _network(graph: Graph, values: Mapping[str, Array]) -> tuple[list[str], str, dict[str, Array]]:
    """Return the lines that build the network from `inputs`, its output variable, and the arrays by Keras's names."""
    variables = variables_of(graph, RESERVED)
    for node in graph.nodes:
        refuse_unless(not (node.share and node.state), node, f"{node.layer.type_name} with share")
    written = [WRITERS[node.layer.type_name](node, [variables[name] for name in node.inputs]) for node in graph.nodes]
    owners = [node.share or node.name for node in graph.nodes]
    names = _layer_names(owners, [made.call for made in written])
    several = [owner for owner, count in Counter(owners).items() if count > 1]
    objects = identifiers([f"{owner}_layer" for owner in several], {*RESERVED, *variables.values()})
    lines = [f"    {variables[INPUT]} = inputs"]
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
        layer_name = objects.get(f"{owner}_layer", layer)
        lines += assignment(
            variables[node.name], parts.call.format(layer=layer_name) if layer else parts.call, _turned(node.shape)
        )
    return lines, variables[graph.output.name], arrays


def _layer_names(owners: Iterable[str], calls: Iterable[str]) -> dict[str, str]:
    """Return a name in Keras for each layer with arrays, different from all names that Keras generates."""
    called = re.findall(r"\b(?:layers|ops)\.(\w+)\(", "".join((*calls, *CLASSES.values())))
    automatic = UNWRITTEN | {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in called}
    owner_names = [*identifiers(owners).values()]
    return identifiers(owners, [name for name in owner_names if re.sub(r"_\d+$", "", name) in automatic])
