"""The search for the layer whose output is the first that is not finite, with all layers on arrays of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnspec.graph import INPUT, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode, from_public
from cnnspec.plan.single import bind_single
from cnnspec.plan.state import Stream
from cnnspec.train.network import Network

MOST_IMAGES = 4  # images tried at once; all images of a batch are tried in turn


def guilty_layer(model: Network, images: Array) -> str | None:
    """The type and name of the first layer with a value that is not finite, as in `conv2d 'stem'`; None if all are."""
    for node in model.graph.nodes:
        for name, key in node.keys.items():
            if not np.isfinite(model.params[key]).all():
                return f"{node.layer.type_name} '{node.name}' ({name})"
    for first in range(0, len(images), MOST_IMAGES):
        for node, _, output in values(model, images[first : first + MOST_IMAGES]):
            if not np.isfinite(output).all():
                return f"{node.layer.type_name} '{node.name}'"
    return None


def values(model: Network, images: Array, mode: Mode = "train") -> Iterator[tuple[Node, tuple[Array, ...], Array]]:
    """Yield every node with its input arrays and its output, in a plan's layout, in the order of the graph."""
    values_by_name = {INPUT: entered(model, images)}
    for node in model.graph.nodes:
        inputs = tuple(values_by_name[name] for name in node.inputs)
        single = bind_single(
            node.layer,
            node.input_shapes,
            inputs,
            params=model.weights.views(model.weights.values, node),
            state={name: array.copy() for name, array in model.weights.node_state(node).items()},
            mode=mode,
            random=Stream(0, node.name, 0, np.array(1)),
        )
        single.run_forward()
        values_by_name[node.name] = single.operands.output
        yield node, inputs, single.operands.output


def entered(model: Network, images: Array) -> Array:
    """Convert prepared images to the arrays that a network's first layers read: normalised, in a plan's layout."""
    dtype = model.weights.values.dtype
    x = images.astype(dtype)
    if images.dtype == np.uint8 and model.pixels is not None:
        scale, shift = (np.asarray(values, dtype).reshape(-1, 1, 1) for values in model.pixels)
        x = x * scale + shift
    return np.ascontiguousarray(from_public(x))
