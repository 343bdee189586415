"""Writes a graph as an ONNX model for inference: any number of images in, the network's output out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from cnnspec import __version__
from cnnspec.data.inputs import Inputs
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.exported_network import ExportedNetwork, Output, exported_network, labels
from cnnspec.export.onnx_layers import WRITERS, identity
from cnnspec.export.onnx_writer import FLOOR, NEWEST, ModelWriter, package
from cnnspec.export.plain_weights import with_plain_weights
from cnnspec.graph import INPUT, Graph
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.layers.part import Part
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

PIXELS = "pixels"  # the input of a model that contains the preprocessing


def model(graph: Graph, values: Mapping[str, Array], opset: int | None = None) -> Any:
    """Return the graph as an `onnx.ModelProto`, with the parameters and states in `values` by name.

    Unless given, `opset` is the lowest possible one. RunError with all layers that have no counterpart in ONNX.
    """
    graph, values = with_plain_weights(graph, values)
    graph = remove_dead_nodes(remove_train_only(graph.without_losses))
    outputs = (Output("", graph.output.name, graph.output.shape),)
    return _model(ExportedNetwork(graph, values, outputs), opset, None, raw=True)


def network_model(network: Network, text: str, opset: int | None = None, *, raw: bool = False) -> Any:
    """Return a trained network as an `onnx.ModelProto`, with labels and the spec's text as metadata.

    Its inputs are bytes before `preprocess`, with `raw` normalised numbers; its outputs are in the data's units.
    """
    found, pipeline = exported_network(network, at_inference=True), network.pipeline
    made = _model(found, opset, pipeline, raw=raw)
    entering = INPUT if raw or pipeline is None else PIXELS
    about = {
        "labels": json.dumps(labels(network)),
        "spec": text,
        "input": _described(found, entering, pipeline),
        "learned": json.dumps(network.target.record()),
        "data": json.dumps(pipeline.record() if pipeline else {}),
    }
    package().helper.set_model_props(made, about)
    return made


def _described(found: ExportedNetwork, entry: str, pipeline: Pipeline | None) -> str:
    if found.inputs:
        return f"numbers {Inputs(found.inputs)}" + ("; uint8 are pixels from 0 to 255" if entry == PIXELS else "")
    if entry == INPUT:
        sizes = ", ".join(map(str, found.graph.input_shape))
        return f"numbers (n, {sizes}), normalised as the spec's data.preprocess says"
    assert pipeline is not None
    shape = pipeline.shape or found.graph.input_shape
    colours = {1: "grey, ", 3: "red, green and blue, "}.get(shape[0], "")
    sizes = ", ".join(map(str, shape))
    return f"bytes (n, {sizes}): {colours}fit to this size bilinearly with antialiasing; all else is in the model"


def _check(graph: Graph, opset: int | None) -> None:
    """Raise RunError if a layer or the opset is not supported."""
    strange = sorted({node.layer.type_name for node in graph.nodes if not node.layer.train_only} - WRITERS.keys())
    if strange := [name for name in strange if name != Part.type_name]:
        raise RunError(f"ONNX has no counterpart of {', '.join(strange)}", "export a spec without such layers")
    if opset is not None and not FLOOR <= opset <= NEWEST:
        raise RunError(f"expected an opset from {FLOOR} to {NEWEST}, got {opset}", "leave it out for the lowest")


def _written(
    found: ExportedNetwork, opset: int | None, pipeline: Pipeline | None
) -> tuple[ModelWriter, dict[str, tuple[Shape, str]]]:
    """Write all operators for an opset, and return the shapes and types of the inputs by name.

    If no opset is given, it is raised until all operators are available.
    """
    graph, made = found.graph, ModelWriter(found.values, opset or FLOOR)
    names: dict[str, str] = {}  # of pixels as numbers, by the name of their input
    if found.inputs:
        pixels = frozenset() if pipeline is None else pipeline.inputs.pixels or frozenset()
        entries = {name: (shape, "uint8" if name in pixels else "float32") for name, shape in found.inputs.items()}
        names = {name: _pixels(made, name) for name in found.inputs if name in pixels}
    elif pipeline is not None:
        entries = {PIXELS: (pipeline.shape or graph.input_shape, "uint8")}
        _preprocessing(made, pipeline, pipeline.shape or graph.input_shape)
    else:
        entries = {INPUT: (graph.input_shape, "float32")}
    for node in graph.nodes:
        if not isinstance(node.layer, Part):
            inputs = [names.get(name, name) for name in node.inputs]
            WRITERS.get(node.layer.type_name, identity)(made, node, inputs)
    if made.needed <= made.opset:
        return made, entries
    if opset is not None:
        raise RunError(f"this network needs opset {made.needed} at least, got {opset}", "leave --opset out")
    return _written(found, made.needed, pipeline)


def _pixels(made: ModelWriter, name: str) -> str:
    """Write the numbers from 0 to 1 of an input of bytes."""
    made.add("Cast", [name], f"{name}.number", to=package().TensorProto.FLOAT)
    return made.add("Div", [f"{name}.number", made.constant(":most", np.float32(255))], f"{name}.scaled")


def _model(found: ExportedNetwork, opset: int | None, pipeline: Pipeline | None, *, raw: bool) -> Any:
    onnx, graph = package(), found.graph
    _check(graph, opset)
    written, entries = _written(found, opset, None if raw else pipeline)
    kinds = {node.name: node.shape for node in graph.nodes if node.name not in entries}
    results = [_result(written, output, {*kinds, *entries, INPUT}) for output in found.outputs]
    kinds |= {name: output.shape for name, output in zip(results, found.outputs, strict=True)}
    float32 = onnx.TensorProto.FLOAT
    infos = {name: onnx.helper.make_tensor_value_info(name, float32, ["n", *shape]) for name, shape in kinds.items()}
    made = onnx.helper.make_graph(
        written.nodes,
        graph.name or "network",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(type)), ["n", *shape]
            )
            for name, (shape, type) in entries.items()
        ],
        [infos.pop(name) for name in results],
        written.constants,
        value_info=list(infos.values()),
    )
    imports = [onnx.helper.make_opsetid("", written.opset)]
    version = max(4, onnx.helper.find_min_ir_version_for(imports))
    whole = onnx.helper.make_model(
        made, opset_imports=imports, ir_version=version, producer_name="cnnspec", producer_version=__version__
    )
    whole = onnx.shape_inference.infer_shapes(whole, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _result(written: ModelWriter, output: Output, taken: Collection[str]) -> str:
    """Write an output in the units of the data, under its own name if it has one, and return that of the value."""
    last = output.value
    name = f"{output.name}.output" if output.name in taken and output.name != last else output.name
    if output.mean:
        spread = written.constant(f"{last}.deviation", np.array(output.deviation, np.float32))
        written.add("Mul", [last, spread], f"{last}.spread")
        shift = written.constant(f"{last}.mean", np.array(output.mean, np.float32))
        free = name if name and name != last else f"{last}.values"
        return written.add("Add", [f"{last}.spread", shift], free)
    return written.add("Identity", [last], name) if name and name != last else last


def _preprocessing(made: ModelWriter, pipeline: Pipeline, shape: Shape) -> None:
    """Write the preparation of decoded images, from `PIXELS` to `INPUT`."""
    kinds = package().TensorProto
    last = PIXELS
    for position, transform in enumerate(pipeline.preprocess, 1):
        before, shape, name = shape, transform.infer_shape(shape), f"{transform.type_name}_{position}"
        match transform:
            case Resize():  # in float64, which holds weights and sums exactly; each pass rounds to bytes
                half = made.constant(":half", np.float64(0.5))
                down, across = resampling(before, shape)
                for axis, weights in (("columns", across.T), ("rows", down)):
                    made.add("Cast", [last], f"{name}.{axis}.exact", to=kinds.DOUBLE)
                    factors = [f"{name}.{axis}.exact", made.constant(f"{name}.{axis}.weights", weights)]
                    made.add("MatMul", factors if axis == "columns" else factors[::-1], f"{name}.{axis}.sums")
                    made.add("Add", [f"{name}.{axis}.sums", half], f"{name}.{axis}.upwards")
                    last = made.add("Cast", [f"{name}.{axis}.upwards"], f"{name}.{axis}", to=kinds.INT32)
            case Pad():
                (top, bottom), (left, right) = transform.sides()
                made.add("Cast", [last], f"{name}.number", to=kinds.FLOAT)
                pads = made.constant(f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
                value = made.constant(f"{name}.value", np.float32(transform.value))
                last = made.add("Pad", [f"{name}.number", pads, value], name)
            case Scale() | Normalize():
                pass  # they are in `affine`
            case _:
                strange = transform.type_name
                raise RunError(f"ONNX has no counterpart of {strange}", "--raw leaves the preprocessing out")
    scale, shift = (values.reshape(-1, 1, 1) for values in pipeline.affine)
    made.add("Cast", [last], f"{PIXELS}.number", to=kinds.FLOAT)
    made.add("Mul", [f"{PIXELS}.number", made.constant(f"{PIXELS}.scale", scale)], f"{PIXELS}.scaled")
    made.add("Add", [f"{PIXELS}.scaled", made.constant(f"{PIXELS}.shift", shift)], INPUT)
