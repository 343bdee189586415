"""Products of values with values as operators of ONNX: attention, and matrix products of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from cnnspec.export.onnx_writer import ModelWriter, Writer
from cnnspec.graph import Node
from cnnspec.kernels.step import Array


def _attention(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    """Write attention over the pixels of each window, on arrays (windows of all images, pixels, c)."""
    layer: Any = node.layer
    c, h, w = node.shape
    rows, columns = layer.window or (h, w)
    cut = (-1, c, h // rows, rows, w // columns, columns)
    by_window = _transposed(made, node, "cut", _reshaped(made, node, "parts", inputs[0], cut), (0, 2, 4, 3, 5, 1))
    pixels = _reshaped(made, node, "pixels", by_window, (-1, rows * columns, c))
    parts = zip(*(np.split(array, 3) for array in _arrays(made, node, "in")), strict=True)
    query, key, value = (
        _by_head(made, node, name, _projected(made, node, name, pixels, part), order)
        for name, order, part in zip(
            ("query", "key", "value"), ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), parts, strict=True
        )
    )
    scale = made.constant(f"{node.name}.scale", np.float32(1 / sqrt(c // layer.heads)))
    products = _added(made, node, "scaled", "Mul", [_added(made, node, "products", "MatMul", [query, key]), scale])
    weights = made.add("Softmax", [products], f"{node.name}.weights", axis=3)
    mixed = _added(made, node, "mixed", "MatMul", [weights, value])
    together = _reshaped(made, node, "together", _transposed(made, node, "heads", mixed, (0, 2, 1, 3)), (0, 0, c))
    result = _projected(made, node, "result", together, _arrays(made, node, "out"))
    tiles = _reshaped(made, node, "windows", result, (-1, h // rows, w // columns, rows, columns, c))
    turned = _transposed(made, node, "turned", tiles, (0, 5, 1, 3, 2, 4))
    made.add("Reshape", [turned, made.constant(f"{node.name}.map", np.array((-1, c, h, w)))], node.name)


def _arrays(made: ModelWriter, node: Node, name: str) -> list[Array]:
    """Return the weight of a projection and, where the layer has one, its bias."""
    return [
        np.asarray(made.values[node.keys[f"{name}_{part}"]], np.float32)
        for part in ("weight", "bias")
        if f"{name}_{part}" in node.keys
    ]


def _projected(made: ModelWriter, node: Node, name: str, source: str, arrays: Sequence[Array]) -> str:
    """Write source W' + b, a projection of every pixel's channels, and return its name."""
    weight = made.constant(f"{node.name}.{name}_weight", arrays[0].T)
    product = _added(made, node, f"{name}_product", "MatMul", [source, weight])
    if len(arrays) == 1:
        return product
    return _added(made, node, name, "Add", [product, made.constant(f"{node.name}.{name}_bias", arrays[1])])


def _by_head(made: ModelWriter, node: Node, name: str, source: str, order: Sequence[int]) -> str:
    """Write (windows, pixels, c) as (windows, pixels, heads, c / heads), its axes in another order."""
    layer: Any = node.layer
    cut = _reshaped(made, node, f"{name}_cut", source, (0, 0, layer.heads, -1))
    return _transposed(made, node, f"{name}_heads", cut, order)


def _added(made: ModelWriter, node: Node, name: str, operator: str, inputs: Sequence[str]) -> str:
    return made.add(operator, inputs, f"{node.name}.{name}")


def _reshaped(made: ModelWriter, node: Node, name: str, source: str, shape: Sequence[int]) -> str:
    return _added(made, node, name, "Reshape", [source, made.constant(f"{node.name}.{name}_shape", np.array(shape))])


def _transposed(made: ModelWriter, node: Node, name: str, source: str, order: Sequence[int]) -> str:
    return made.add("Transpose", [source], f"{node.name}.{name}", perm=order)


def _matmul(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    """Write y = A B, with the input that the layer transposes turned first."""
    layer: Any = node.layer
    factors = [
        _transposed(made, node, name, source, (0, 1, 3, 2)) if layer.transpose == name else source
        for name, source in zip(("first", "second"), inputs, strict=True)
    ]
    made.add("MatMul", factors, node.name)


WRITERS: Mapping[str, Writer] = {"attention": _attention, "matmul": _matmul}
