"""Reads back an ONNX file that `export` wrote: the spec is in its metadata, and must match what the file computes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.converted import SEVERAL, Converted, FileInput
from cnnspec.convert.onnx_file import Entry, OnnxFile, package
from cnnspec.convert.onnx_run import run_file
from cnnspec.diagnostics import DataError, RunError, SpecError
from cnnspec.graph import INPUT, Graph, build
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, size
from cnnspec.spec import Spec, loads
from cnnspec.target import KINDS, Target
from cnnspec.train.network import Network

PRODUCER = "cnnspec"
TOLERANCE = 1e-4  # as a share of the largest output, or 1
MOST_RUN = 1 << 24  # numbers of one value of one image in a file that is run for the check
SCALED = "{}.scaled"  # the name that `export` gives the numbers of an input of pixels
RANKS = range(1, 6)  # number of axes of a reshaped parameter, which is part of its name


def read_own(file: OnnxFile, name: str) -> Converted | None:
    """Return the spec from which a file was exported, byte for byte, with the file's weights.

    None if the file has no spec, lacks weights, or computes other outputs than the spec does with them. The operators
    that prepare images are left out, because the spec says how images are prepared.
    """
    metadata = {item.key: item.value for item in file.model.metadata_props}
    if file.model.producer_name != PRODUCER or not metadata.get("spec"):
        return None
    try:
        spec = loads(metadata["spec"], name)
        graph = build(spec)
        arrays = _arrays(graph, file.constants)
        largest = max(prod(shape) for shape in (graph.input_shape, *(node.shape for node in graph.nodes)))
        if arrays is None or largest > MOST_RUN:
            return None
        inner = _network_of(file, graph.without_losses.output.name, spec.inputs or {INPUT: graph.input_shape})
        network = Network(spec, graph, threads=1)
        network.weights.load(arrays)
    except (DataError, RunError, SpecError, KeyError, ValueError):
        return None
    run = partial(run_file, inner, graph.without_losses.output.name)
    images = np.random.default_rng(0).standard_normal((SEVERAL, *graph.input_shape)).astype(np.float32)
    outputs = run(_parted(images, spec))
    if isinstance(outputs, str) or not _agree(outputs[1], network.outputs(images)):
        return None
    try:
        learned = _learned(metadata, name)
        adopt_learned(network, learned, name)
        if network.outputs(images).shape != outputs[1].shape:
            return None
    except (AttributeError, DataError, KeyError, RecursionError, RunError, TypeError, ValueError):
        return None
    note = "the file was written by cnnspec, so the spec is the one in it"
    inputs = [FileInput((SEVERAL, *shape)) for shape in (spec.inputs or {INPUT: graph.input_shape}).values()]
    return Converted(metadata["spec"], arrays, inputs, run, note=note, learned=learned)


def adopt_learned(network: Network, learned: Mapping[str, Any], name: str) -> None:
    """Give a network what its training learned of the images: their form, names of classes, and units of values."""
    if network.pipeline is not None and "pipeline" in learned:
        network.pipeline = network.pipeline.restored(learned, name)
    if "target" in learned:
        network.adopt(Target.of(learned["target"]))


def _learned(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the records of the training in a file; an error of some kind if they are none."""
    if "learned" not in metadata:
        return {}
    target = Target.of(json.loads(metadata["learned"]))
    for part in (target, *target.parts.values()):
        numbers = (*part.mean, *part.deviation)
        if part.kind not in KINDS or len(part.mean) != len(part.deviation) or not np.isfinite(numbers).all():
            raise ValueError(f"{name}: no record of a target")
        if not all(isinstance(text, str) for text in part.names):
            raise ValueError(f"{name}: names of a target are no texts")
        if not all(isinstance(count, int) for count in (*part.counts, part.images)):
            raise ValueError(f"{name}: counts of a target are no numbers")
    return {"target": target.record(), **json.loads(metadata.get("data", "{}"))}


def _arrays(graph: Graph, constants: Mapping[str, Array]) -> dict[str, Array] | None:
    """Return all arrays of the network by their names; None if one is missing."""
    arrays = {}
    for node in graph.nodes:
        if node.share:
            continue
        shapes = {part: parameter.shape for part, parameter in node.params.items()}
        shapes |= {part: state.shape for part, state in node.state.items()}
        for part, shape in shapes.items():
            key = f"{node.name}.{part}"
            array = next(_candidates(key, constants), None)
            if array is None or array.size != prod(shape) or not np.isfinite(array).all():
                return None
            arrays[key] = np.asarray(array, np.float32).reshape(shape)
    return arrays


def _candidates(key: str, constants: Mapping[str, Array]) -> Iterator[Array]:
    """Yield the stored forms of an array: unchanged, transposed for a matrix product, or in another shape."""
    if key in constants:
        yield constants[key]
    if f"{key}.turned" in constants:
        yield constants[f"{key}.turned"].T
    yield from (constants[f"{key}.{rank}"] for rank in RANKS if f"{key}.{rank}" in constants)


def _parted(images: Array, spec: Spec) -> list[Array]:
    """Return what the network reads as an array for each input: those of several lie behind one another."""
    if not spec.inputs:
        return [images]
    ends = np.cumsum([size(shape) for shape in spec.inputs.values()])[:-1]
    parts = np.split(images, ends, axis=1)
    return [part.reshape(len(part), *shape) for part, shape in zip(parts, spec.inputs.values(), strict=True)]


def _network_of(file: OnnxFile, output: str, inputs: Mapping[str, Shape]) -> OnnxFile:
    """Return the file without the preparation of images and the scaling of outputs; ValueError if it cannot be cut.

    `inputs` are the shapes of what the network reads, by the names of its inputs: the numbers of pixels, which are
    called so, are made of them.
    """
    onnx: Any = package()
    made = {name for node in file.model.graph.node for name in node.output}
    entries = tuple(
        Entry(SCALED.format(name) if SCALED.format(name) in made else name, (None, *shape), np.dtype("float32"))
        for name, shape in inputs.items()
    )
    names = {entry.name for entry in entries}
    model = type(file.model)()
    model.CopyFrom(file.model)
    wanted, operators = {output}, []
    for node in reversed(file.model.graph.node):
        if not names.intersection(node.output) and wanted.intersection(node.output):
            wanted.update(node.input)
            operators.append(node)
    if not names <= wanted:
        raise ValueError("the output does not depend on every input")
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(reversed(operators))
    float32 = onnx.TensorProto.FLOAT
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(entry.name, float32, ["n", *entry.lengths[1:]]) for entry in entries
    )
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    return replace(file, model=model, entries=entries, outputs=(output,))


def _agree(expected: Array, got: Array) -> bool:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return expected.shape == got.shape and bool((np.abs(expected - got) <= TOLERANCE * scale).all())
