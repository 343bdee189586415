"""Replaces layers that compute their weights from other arrays by layers with fixed weights, for inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cnnspec.graph import Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.weight_norm import WeightNorm


def with_plain_weights(graph: Graph, values: Mapping[str, Array]) -> tuple[Graph, dict[str, Array]]:
    """Return the graph with every `weight_norm` replaced by the layer in it, and the arrays with their weights."""
    plain = dict(values)
    nodes = tuple(_plain(node, plain) for node in graph.nodes)
    return replace(graph, nodes=nodes), plain


def _plain(node: Node, values: dict[str, Array]) -> Node:
    """Return a node unchanged, or for `weight_norm` the layer in it, whose weight is added to `values`."""
    if not isinstance(node.layer, WeightNorm):
        return node
    direction, length = values[node.keys["direction"]], values[node.keys["length"]]
    size = np.sqrt(np.square(direction.reshape(len(direction), -1)).sum(1))
    factor = np.divide(length, size, out=np.zeros_like(length), where=size > 0)
    key = f"{node.keys['direction'].removesuffix('direction')}weight"
    values[key] = direction * factor.reshape(-1, *(1,) * (direction.ndim - 1))
    others = {part: key for part, key in node.keys.items() if part not in ("direction", "length")}
    inner = node.layer.layer
    return replace(node, layer=inner, params=inner.params(*node.input_shapes), keys={"weight": key, **others})
