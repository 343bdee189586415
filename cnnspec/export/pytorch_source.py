"""A trained network as a PyTorch module: readable source code, and its weights by PyTorch's names."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.exported_network import ExportedNetwork, labels, written_with
from cnnspec.export.pytorch_layers import WRITERS, padded
from cnnspec.export.straight_line import (
    INPUTS,
    assignment,
    batch_of,
    entering,
    in_units,
    leaving,
    listed,
    results,
    taken,
    variables_of,
)
from cnnspec.graph import INPUT
from cnnspec.graph.identifiers import module_names
from cnnspec.kernels.step import Array
from cnnspec.layers.part import Part
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

RESERVED = {INPUTS, "self", "torch", "nn", "F", "Tensor"}

SOURCE = '''\
"""{title} in PyTorch; its trained weights are in {archive} beside this file (pip install torch safetensors).

    network = load()
    outputs = network({entry})  # {output}
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

{classes}
class Network(nn.Module):
    """Numbers {input} to outputs {output}; {count:,} parameters."""

    def __init__(self) -> None:
        super().__init__()
{modules}

    def forward(self, {x}) -> {made}:
{lines}
{prepare}

def load(path: str | Path = Path(__file__).with_suffix(".safetensors")) -> Network:
    """The network with its trained weights, for inference: dropout is off, and statistics are the running ones."""
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()
'''
PREPARE_INPUTS = '''
    def prepare(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bytes to numbers from 0 to 1; inputs of numbers stay as they are."""
        return {{{pairs}}}
'''
PREPARE = '''
    def prepare(self, images: Tensor) -> Tensor:
        """Bytes {given} to the numbers {shape} that the network takes."""
{steps}        scale = torch.tensor({scale}).reshape(-1, 1, 1)
        shift = torch.tensor({shift}).reshape(-1, 1, 1)
        return images.float() * scale + shift
'''
# Each new row and column is a mean of the old ones with weights, rounded to a byte; the sums are exact in float64.
RESIZE = """\
        images = torch.floor(images.double() @ self.{name}_across.T + 0.5)
        images = torch.floor(self.{name}_down @ images + 0.5)  # {shape}"""


def source(network: Network, name: str, *, raw: bool) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.safetensors.

    RunError with all layers, or with the steps of the preprocessing, that have no counterpart here.
    """
    refusal = "no counterpart of {} in PyTorch is known here"
    found = written_with(network, WRITERS, refusal, "export --format onnx")
    graph, pipeline = found.graph, None if raw else network.pipeline
    modules, lines, arrays = _network(found, module_names(network.graph))
    prepare = ""
    if pipeline is not None and found.inputs:
        pixels = pipeline.inputs.pixels or frozenset()
        pairs = {name: f"inputs[{json.dumps(name)}]{' / 255' if name in pixels else ''}" for name in found.inputs}
        written = ", ".join(f"{json.dumps(name)}: {value}" for name, value in pairs.items())
        prepare = PREPARE_INPUTS.format(pairs=written)
    elif pipeline is not None:
        prepare, buffers, weights = _prepare(pipeline, pipeline.shape or graph.input_shape)
        modules, arrays = [*buffers, *modules], arrays | weights
    names = labels(network)
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.safetensors",
        entry=f"network.prepare({INPUTS if found.inputs else 'images'})"
        if pipeline
        else INPUTS
        if found.inputs
        else "x",
        classes=f"CLASSES = {json.dumps(names, ensure_ascii=False)}\n\n" if names else "",
        input=entering(found.inputs, graph.input_shape),
        output=leaving(found.outputs),
        x="inputs: dict[str, Tensor]" if found.inputs else "x: Tensor",
        made="dict[str, Tensor]" if found.several else "Tensor",
        count=graph.parameter_count,
        modules="\n".join(modules) or "        pass",
        lines="\n".join(lines),
        prepare=prepare,
    )
    return text, arrays


def state(network: Network) -> dict[str, Array]:
    """Return a network's arrays by the names that `source` gives them in PyTorch."""
    refusal, cure = "no names of {} in PyTorch are known here", "export --format numpy"
    return _network(written_with(network, WRITERS, refusal, cure, with_parameters=True), module_names(network.graph))[2]


def _network(found: ExportedNetwork, names: Mapping[str, str]) -> tuple[list[str], list[str], dict[str, Array]]:
    """Return the lines that make the modules, the lines that compute the network, and the arrays by PyTorch's names.

    `names` are those of the layers in PyTorch.
    """
    graph, values = found.graph, found.values
    variables = variables_of(graph, RESERVED, found.outputs)
    modules: list[str] = []
    lines = [] if variables[INPUT] in ("x", INPUTS) else [f"        {variables[INPUT]} = x"]
    arrays: dict[str, Array] = {}
    called: dict[str, str] = {}  # what PyTorch calls each array, by its name here
    for node in graph.nodes:
        if isinstance(node.layer, Part):
            lines += assignment(variables[node.name], taken(variables[INPUT], node), node.shape, " " * 8)
            continue
        writer = WRITERS.get(node.layer.type_name)
        if writer is None:
            continue
        own = names[node.name if node.state or not node.share else node.share]  # running statistics are never tied
        written = writer(node, own, [variables[name] for name in node.inputs])
        lines += assignment(variables[node.name], written.call, node.shape, " " * 8)
        keys = {name: node.keys.get(part, f"{node.name}.{part}") for part, name in written.names.items()}
        if node.share and all(called.get(key) == name for name, key in keys.items()):
            continue  # the module of the layer whose arrays it uses
        modules += [f"        self.{attribute} = {made}" for attribute, made in written.modules.items()]
        for name, key in keys.items():
            arrays[name] = np.ascontiguousarray(values[key])
            if called.setdefault(key, name) != name:
                modules.append(f"        self.{name} = self.{called[key]}")
    lines += results("return ", found.outputs, variables, in_units("torch.tensor"), indent=" " * 8)
    return modules, lines, arrays


def _prepare(pipeline: Pipeline, shape: Shape) -> tuple[str, list[str], dict[str, Array]]:
    """Return the method that prepares decoded images, the lines of its buffers, and the arrays in them."""
    given, steps, buffers, arrays = shape, list[str](), list[str](), dict[str, Array]()
    for position, transform in enumerate(pipeline.preprocess, 1):
        before, shape = shape, transform.infer_shape(shape)
        match transform:
            case Resize():
                name = f"resize_{position}"
                for axis, weights in zip(("down", "across"), resampling(before, shape), strict=True):
                    arrays[f"{name}_{axis}"] = np.ascontiguousarray(weights, np.float64)
                    zeros = f"torch.zeros({weights.shape!r}, dtype=torch.float64)"
                    buffers.append(f'        self.register_buffer("{name}_{axis}", {zeros})')
                steps.append(RESIZE.format(name=name, shape=batch_of(shape)))
            case Pad():
                (top, bottom), (left, right) = transform.sides()
                call = padded("images", (top, bottom, left, right), f", value={transform.value}")
                steps.append(f"        images = {call}  # {batch_of(shape)}")
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                type_name = transform.type_name
                raise RunError(f"the PyTorch source has no words for {type_name}", "--raw leaves the preprocessing out")
    scale, shift = (listed(values) for values in pipeline.affine)
    lines = "".join(f"{step}\n" for step in steps)
    text = PREPARE.format(given=batch_of(given), shape=batch_of(shape), steps=lines, scale=scale, shift=shift)
    return text, buffers, arrays
