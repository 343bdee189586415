"""Runs a Keras file on images with Keras itself, if it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array

BACKENDS = ("jax", "tensorflow", "torch")
CODE = {"Lambda", "__lambda__", "function"}  # classes that contain Python code or refer to it
MOST_FAILURE = 200  # characters of Keras's error if it cannot run a file


def names_code(model: Any) -> bool:
    """Tell whether a model's description refers to code to run: of a module outside Keras, or of its own."""
    return any(
        item.get("class_name") in CODE or not str(item.get("module") or "keras").startswith("keras")
        for item in _mappings(model)
    )


def _mappings(model: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [model]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def run_file(
    path: Path, output: tuple[str, int], names: Sequence[str], arrays: Sequence[Array]
) -> tuple[str, Array] | str:
    """Return what ran the file and the output of a layer's use, or why nothing here runs it.

    `names` are the inputs that it is computed from, `arrays` the values of each: vectors, or maps (n, c, h, w).
    """
    backend = next((name for name in BACKENDS if importlib.util.find_spec(name) is not None), None)
    if backend is None or importlib.util.find_spec("keras") is None:
        return "Keras, or a backend of it, is not installed"
    os.environ.setdefault("KERAS_BACKEND", backend)  # read when Keras starts
    try:
        keras: Any = importlib.import_module("keras")
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        name, use = output
        last = model.get_layer(name)._inbound_nodes[use].outputs[0]
        entering = [np.moveaxis(array, 1, -1) if array.ndim == 4 else array for array in arrays]
        read = {tensor.name: tensor for tensor in model.inputs}
        inputs = model.inputs if len(names) == 1 == len(read) else [read[name] for name in names]
        outputs = np.asarray(keras.Model(inputs, last).predict(entering, verbose=0))
    except Exception as error:  # Keras may raise anything
        return f"Keras: {' '.join(str(error).split())[:MOST_FAILURE]}"
    return "Keras", np.moveaxis(outputs, -1, 1) if outputs.ndim == 4 else outputs
