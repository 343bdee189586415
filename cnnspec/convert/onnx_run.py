"""Runs an ONNX file on images: with onnxruntime if it is installed, else with the onnx package's reference."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from cnnspec.convert.onnx_file import OnnxFile, package
from cnnspec.kernels.step import Array

MOST_FAILURE = 200  # characters of the error of a program that cannot run a file


def run_file(file: OnnxFile, output: str, images: Array) -> tuple[str, Array] | str:
    """Return the name of the program that ran the file, and an output for images; or the reason why none did."""
    model, entry = file.model, file.entry
    feed = {entry.name: images.astype(entry.dtype)}
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
    whole = _with_output(model, output)
    session = runtime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([output], feed)[0]


def _reference(model: Any, feed: dict[str, Array], output: str) -> Any:
    evaluator = package().reference.ReferenceEvaluator(_with_output(model, output))
    return evaluator.run([output], feed)[0]


def _with_output(model: Any, output: str) -> Any:
    if any(info.name == output for info in model.graph.output):
        return model
    changed = type(model)()
    changed.CopyFrom(model)
    changed.graph.output.append(package().helper.make_empty_tensor_value_info(output))
    return changed
