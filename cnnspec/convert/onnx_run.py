"""Runs an ONNX file on images: with onnxruntime if it is installed, else with the onnx package's reference."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from cnnspec.convert.onnx_file import OnnxFile, package
from cnnspec.kernels.step import Array

MOST_FAILURE = 200  # characters of the error of a program that cannot run a file


def run_file(file: OnnxFile, output: str, arrays: Sequence[Array]) -> tuple[str, Array] | str:
    """Return the name of the program that ran the file, and an output for an array of each input; or why none did."""
    feed = {entry.name: array.astype(entry.dtype) for entry, array in zip(file.entries, arrays, strict=True)}
    model = _part_of(file.model, output, feed)
    reason = "no program ran it"
    for program, runner in (("onnxruntime", _runtime), ("onnx's reference", _reference)):
        try:
            return program, np.asarray(runner(model, feed, output))
        except ImportError:
            continue
        except Exception as error:  # the program may raise anything
            reason = f"{program}: {' '.join(str(error).split())[:MOST_FAILURE]}"
    return reason


def _runtime(model: Any, feed: dict[str, Array], output: str) -> Any:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([output], feed)[0]


def _reference(model: Any, feed: dict[str, Array], output: str) -> Any:
    evaluator = package().reference.ReferenceEvaluator(model, new_ops=[_batch_normalization()])
    return evaluator.run([output], feed)[0]


def _batch_normalization() -> type:
    """Return the operator at inference; that of the reference takes the batch's statistics below opset 14."""
    op_run: Any = importlib.import_module("onnx.reference.op_run")

    class BatchNormalization(op_run.OpRun):  # type: ignore[misc, name-defined, unused-ignore]
        op_domain = ""

        def _run(self, x: Array, *arrays: Array, epsilon: float = 1e-5, **_: object) -> tuple[Array]:
            scale, shift, mean, variance = (array.reshape(-1, *[1] * (x.ndim - 2)) for array in arrays)
            return (((x - mean) / np.sqrt(variance + np.float32(epsilon)) * scale + shift).astype(x.dtype),)

    return BatchNormalization


def _part_of(model: Any, output: str, entries: Collection[str]) -> Any:
    """Return the part of a model that computes one value from some inputs; the model itself if that is all of it."""
    whole = any(info.name == output for info in model.graph.output)
    constants = {tensor.name for tensor in model.graph.initializer}
    if whole and all(info.name in constants or info.name in entries for info in model.graph.input):
        return model
    part = type(model)()
    part.CopyFrom(model)
    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    inputs = [info for info in model.graph.input if info.name in constants or info.name in entries]
    del part.graph.node[:], part.graph.input[:], part.graph.output[:]
    part.graph.node.extend(reversed(nodes))
    part.graph.input.extend(inputs)
    part.graph.output.append(package().helper.make_empty_tensor_value_info(output))
    return part
