"""A trained network as a Keras model: its source, for people to read and to go on with, and its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np

from cnnspec.export.copied_functions import copied
from cnnspec.export.keras_layers import CLASSES, WRITERS
from cnnspec.export.numpy_program import prepare_function
from cnnspec.export.plain_weights import answering
from cnnspec.export.straight_line import assignment, batch_of, identifier, listed, variables_of
from cnnspec.graph import INPUT, Graph
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

RESERVED = {"keras", "layers", "ops", "np", "Path", "model", "inputs", *CLASSES}

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
    own = "\n\n".join(text for called, text in CLASSES.items() if f"{called}(" in body)
    names = network.class_names
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        entry="prepare(images)" if pipeline is not None else "x",
        ops=", ops" if "ops." in body + own else "",
        constants=f"CLASSES = {json.dumps(list(names), ensure_ascii=False)}\n" if names else "",
        classes=f"\n\n{own}" if own else "",
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
    """The lines that make the network from `inputs`, the variable of its output, and the arrays by Keras's names."""
    variables = variables_of(graph, RESERVED)
    lines = [f"    {variables[INPUT]} = inputs"]
    arrays: dict[str, Array] = {}
    shared = {identifier(node.share) for node in graph.nodes if node.share}
    for node in graph.nodes:
        own = identifier(node.share or node.name)
        written = WRITERS[node.layer.type_name](node, [variables[name] for name in node.inputs])
        made = ""
        if written.layer:
            separator = "" if written.layer.endswith("(") else ", "
            made = f'{written.layer}{separator}name="{own}")'
        if own in shared and not node.share:
            lines.append(f"    {own}_layer = {made}")
        call = written.call.format(layer=f"{own}_layer" if own in shared else made) if made else written.call
        if not node.share:
            for variable, (part, laid) in written.arrays.items():
                arrays[f"{own}/{variable}"] = np.ascontiguousarray(laid(values[f"{node.name}.{part}"]))
        lines += assignment(variables[node.name], call, _turned(node.shape))
    return lines, variables[graph.output.name], arrays
