"""An ONNX model while it is written: its operators, its constants by name, and the opset that they need."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.graph import Node
from cnnspec.kernels.step import Array

FLOOR = 9  # the first opset in whose files (format version 4) constants need not be inputs
NEWEST = 21  # the newest opset written: the first with GroupNormalization by channel
SINCE = {  # the first opset with an operator as it is written here; FLOOR for all others
    "Clip": 11,
    "DepthToSpace": 11,
    "Gelu": 20,
    "GroupNormalization": 21,
    "HardSwish": 14,
    "LayerNormalization": 17,
    "Mish": 18,
    "Pad": 11,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "Resize": 11,
    "Slice": 10,
}


@cache
def package() -> Any:
    """Import the onnx package; RunError where it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise RunError("onnx is not installed", "pip install onnx") from error


class ModelWriter:
    """The model while it is written: its nodes, its constants by name, and the opset that they need."""

    def __init__(self, values: Mapping[str, Array], opset: int) -> None:
        self.values = values
        self.opset = opset
        self.needed = FLOOR
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: set[str] = set()

    def has(self, operator: str) -> bool:
        """Tell whether the opset of the model has an operator."""
        return SINCE.get(operator, FLOOR) <= self.opset

    def add(
        self, operator: str, inputs: Sequence[str], output: str, *, since: int | None = None, **attributes: Any
    ) -> str:
        """Append one operator and return the name of its output; `since` is the opset that it needs as written."""
        self.needed = max(self.needed, SINCE.get(operator, FLOOR) if since is None else since)
        self.nodes.append(package().helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def reduce(self, operator: str, source: str, output: str) -> str:
        """Append a reduction over the channels, which remain as an axis of length 1, and return its output's name."""
        if self.has(operator):
            return self.add(operator, [source, self.constant(":channels", np.array([1]))], output, keepdims=1)
        return self.add(operator, [source], output, since=FLOOR, axes=[1], keepdims=1)

    def constant(self, name: str, value: Any) -> str:
        """Store an array as a constant of the model, once, and return its name."""
        if name not in self.names:
            self.names.add(name)
            self.constants.append(
                package().numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
            )
        return name

    def parameter(self, node: Node, name: str, shape: Sequence[int] | None = None) -> str:
        """Store an array of a node, or of the node it is tied to, in another shape if given, and return its name."""
        key = node.keys.get(name, f"{node.name}.{name}")
        value = np.asarray(self.values[key], np.float32)
        return (
            self.constant(key, value) if shape is None else self.constant(f"{key}.{len(shape)}", value.reshape(shape))
        )


Writer = Callable[[ModelWriter, Node, Sequence[str]], None]
