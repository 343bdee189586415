"""Writes a graph as an ONNX model for inference: any number of images in, the network's output out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec import __version__
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.resize import resampling
from cnnspec.data.transforms import Normalize, Pad, Resize, Scale
from cnnspec.diagnostics import RunError
from cnnspec.export.onnx_layers import WRITERS, identity
from cnnspec.export.onnx_writer import FLOOR, NEWEST, ModelWriter, package
from cnnspec.export.plain_weights import with_plain_weights
from cnnspec.graph import INPUT, Graph
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.train.network import Network

PIXELS = "pixels"  # the input of a model that contains the preprocessing


def model(graph: Graph, values: Mapping[str, Array], opset: int | None = None) -> Any:
    """Return the graph as an `onnx.ModelProto`, with the parameters and states in `values` by name.

    Unless given, `opset` is the lowest possible one. RunError with all layers that have no counterpart in ONNX.
    """
    graph, values = with_plain_weights(graph, values)
    graph = _exportable(graph, opset)
    written = _written(graph, values, opset)
    return _model(graph, written, INPUT, graph.input_shape, np.dtype("float32"))


def network_model(network: Network, text: str, opset: int | None = None, *, raw: bool = False) -> Any:
    """Return a trained network as an `onnx.ModelProto`, with labels and the spec's text as metadata.

    Its inputs are bytes before `preprocess`, with `raw` normalised numbers; its outputs are in the data's units.
    """
    graph, values = with_plain_weights(network.graph, dict(network.weights.arrays()))
    graph, pipeline = _exportable(graph, opset), network.pipeline
    dtype: np.dtype[Any] = np.dtype("float32")
    entry, shape = INPUT, network.graph.input_shape
    if not raw and pipeline is not None:
        entry, shape, dtype = PIXELS, pipeline.shape or shape, np.dtype("uint8")
    written = _written(graph, values, opset, None if raw else pipeline)
    made = _model(graph, written, entry, shape, dtype, network.target.mean, network.target.deviation)
    package().helper.set_model_props(
        made,
        {"labels": json.dumps(list(network.class_names)), "spec": text, "input": _described(entry, shape, pipeline)},
    )
    return made


def _described(entry: str, shape: Shape, pipeline: Pipeline | None) -> str:
    sizes = ", ".join(map(str, shape))
    if entry == INPUT:
        return f"numbers (n, {sizes}), normalised as the spec's data.preprocess says"
    assert pipeline is not None
    colours = {1: "grey, ", 3: "red, green and blue, "}.get(shape[0], "")
    return f"bytes (n, {sizes}): {colours}fit to this size bilinearly with antialiasing; all else is in the model"


def _exportable(graph: Graph, opset: int | None) -> Graph:
    """Return the graph with the nodes that inference needs; RunError if a layer or the opset is not supported."""
    graph = remove_dead_nodes(remove_train_only(graph.answering))
    strange = sorted({node.layer.type_name for node in graph.nodes if not node.layer.train_only} - WRITERS.keys())
    if strange:
        raise RunError(f"ONNX has no counterpart of {', '.join(strange)}", "export a spec without such layers")
    if opset is not None and not FLOOR <= opset <= NEWEST:
        raise RunError(f"expected an opset from {FLOOR} to {NEWEST}, got {opset}", "leave it out for the lowest")
    return graph


def _written(
    graph: Graph, values: Mapping[str, Array], opset: int | None, pipeline: Pipeline | None = None
) -> ModelWriter:
    """Write all operators for an opset; if none is given, it is raised until all operators are available."""
    written = ModelWriter(values, opset or FLOOR)
    if pipeline is not None:
        _preprocessing(written, pipeline, pipeline.shape or graph.input_shape)
    for node in graph.nodes:
        WRITERS.get(node.layer.type_name, identity)(written, node, node.inputs)
    if written.needed <= written.opset:
        return written
    if opset is not None:
        raise RunError(f"this network needs opset {written.needed} at least, got {opset}", "leave --opset out")
    return _written(graph, values, written.needed, pipeline)


def _model(
    graph: Graph,
    written: ModelWriter,
    entry: str,
    shape: Shape,
    dtype: np.dtype[Any],
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Any:
    onnx, kinds = package(), {node.name: node.shape for node in graph.nodes}
    last = graph.output.name
    if mean:
        spread = written.constant(f"{last}.deviation", np.array(deviation, np.float32))
        written.add("Mul", [last, spread], f"{last}.spread")
        shift = written.constant(f"{last}.mean", np.array(mean, np.float32))
        last = written.add("Add", [f"{last}.spread", shift], f"{last}.values")
        kinds[last] = graph.output.shape
    float32 = onnx.TensorProto.FLOAT
    infos = {name: onnx.helper.make_tensor_value_info(name, float32, ["n", *shape]) for name, shape in kinds.items()}
    made = onnx.helper.make_graph(
        written.nodes,
        graph.name or "network",
        [onnx.helper.make_tensor_value_info(entry, onnx.helper.np_dtype_to_tensor_dtype(dtype), ["n", *shape])],
        [infos.pop(last)],
        written.constants,
        value_info=list(infos.values()),
    )
    imports = [onnx.helper.make_opsetid("", written.opset)]
    version = max(4, onnx.helper.find_min_ir_version_for(imports))
    result = onnx.helper.make_model(
        made, opset_imports=imports, ir_version=version, producer_name="cnnspec", producer_version=__version__
    )
    result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(result, full_check=True)
    return result


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
