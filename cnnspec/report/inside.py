"""What a network has learned and how it computes: filters, activations, and units that are always 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.data.rows import Pixels
from cnnspec.graph import Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import to_public
from cnnspec.listing import first_names
from cnnspec.report.png import around_zero, coloured, shrunk, stretched, tiled
from cnnspec.shapes import size
from cnnspec.train.diagnose import values
from cnnspec.train.network import Network

MOST_FILTERS, MOST_CHANNELS, MOST_LAYERS = 64, 24, 24  # number of filters and channels that are drawn
LARGEST_MAP = 28  # rows and columns of an activation in a page
PICTURED = 3  # images whose activations are drawn
MOST_IMAGES, MOST_WORK = 256, 2e10  # limits for measuring layers: images, and multiply-accumulates in all
NEAR = 0.01  # distance from an end, as a share of the range, that counts as saturated
MOST_DEAD = 12  # numbers of dead units that a sentence has
SATURATED = 0.5  # share of saturated values from which a layer is named


@dataclass(frozen=True, slots=True)
class Filters:
    """The weights of the first layer that has weights, as one picture."""

    layer: str
    words: str
    picture: str


@dataclass(frozen=True, slots=True)
class Activations:
    """The values of one layer for a few images, with a picture for each image."""

    layer: str
    type: str
    words: str
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Statistics of one layer's values over some images."""

    layer: str
    mean: float
    deviation: float
    zero: float  # share of values that are 0
    dead: tuple[int, ...]  # channels or units that are 0 for every image
    units: int
    saturated: float  # share of values at an end of the range; 0 if that has no ends


def filters(model: Network) -> Filters | None:
    """Draw the first layer's weights, for a dense layer each unit's as an image; None if they are no images."""
    node = next((node for node in model.graph.nodes if "weight" in node.params), None)
    if node is None:
        return None
    weight = np.asarray(model.weights.params[node.keys["weight"]])
    shape = node.input_shapes[0]
    picture_shape = shape if len(shape) == 3 else model.graph.input_shape
    if weight.ndim == 2 and len(picture_shape) == 3 and weight.shape[1] == size(picture_shape):
        weight = weight.reshape(-1, *picture_shape)
    if weight.ndim != 4 or min(weight.shape[2:]) < 2:
        return None
    drawn = weight[:MOST_FILTERS]
    if weight.shape[1] == 3:
        tiles, how = coloured(drawn), "in the colours of their input, grey is 0"
    else:
        tiles, how = (
            around_zero(np.stack([shrunk(tile, 64) for tile in drawn])[:, 0]),
            "white is 0, red positive, blue negative",
        )
        how += f"; of its {weight.shape[1]} input channels the first" if weight.shape[1] > 1 else ""
    count = f"{len(drawn)} of {len(weight)}" if len(drawn) < len(weight) else f"{len(weight)}"
    words = f"{count} filters of {weight.shape[2]}x{weight.shape[3]}, {how}"
    return Filters(node.name, words, tiled(tiles, min(len(drawn), 10)))


def activations(model: Network, images: Array) -> tuple[list[Activations], str]:
    """Draw the values of every layer for some prepared images; also return a text on the layers left out.

    Each picture runs from the layer's lowest value, black, to its highest, white.
    """
    wanted = [node.name for node in model.graph.nodes]
    if len(wanted) > MOST_LAYERS:
        places = {round(i * (len(wanted) - 1) / (MOST_LAYERS - 1)) for i in range(MOST_LAYERS)}
        wanted = [name for place, name in enumerate(wanted) if place in places]
    result = []
    for node, _, output in values(model, images, "infer"):
        if node.name in wanted:
            public = to_public(output)
            result.append(Activations(node.name, node.layer.type_name, _words(node), tuple(map(_drawn, public))))
    left = len(model.graph.nodes) - len(wanted)
    return result, f"{left} of the {len(model.graph.nodes)} layers are left out, evenly" if left else ""


def _words(node: Node) -> str:
    if len(node.shape) == 3:
        channels = node.shape[0]
        size_text = f"{channels} maps of {node.shape[1]}x{node.shape[2]}"
        return f"the first {MOST_CHANNELS} of {size_text}" if channels > MOST_CHANNELS else size_text
    return f"{node.shape[0]} numbers, row by row"


def _drawn(value: Array) -> str:
    if value.ndim == 3:
        maps = shrunk(value[:MOST_CHANNELS], LARGEST_MAP)
        return tiled(stretched(maps), min(len(maps), 8))
    columns = min(len(value), math.ceil(math.sqrt(len(value) * 2)))
    grid = np.full(math.ceil(len(value) / columns) * columns, value.min(), value.dtype)
    grid[: len(value)] = value
    return tiled(stretched(grid.reshape(1, -1, columns)), 1)


def health(model: Network, images: Pixels) -> tuple[list[Health], int]:
    """Measure every layer on some prepared images; also return their number."""
    count = min(len(images), MOST_IMAGES, max(4, int(MOST_WORK / max(model.graph.macs, 1))))
    sums: dict[str, Array] = {}
    alive: dict[str, Array] = {}
    for start in range(0, count, 32):
        for node, _, output in values(model, images[start : min(start + 32, count)], "infer"):
            public = to_public(output)
            low, high = node.layer.bounds or (-math.inf, math.inf)
            near = NEAR * (high - low)
            ends = (public <= low + near) | (public >= high - near) if math.isfinite(near) else np.zeros(1)
            parts = [public.size, public.sum(dtype=np.float64), np.square(public, dtype=np.float64).sum()]
            parts += [np.count_nonzero(public == 0), np.count_nonzero(ends)]
            sums[node.name] = sums.get(node.name, 0) + np.array(parts, np.float64)
            lives = (public != 0).any(axis=(0, 2, 3) if public.ndim == 4 else 0)
            alive[node.name] = alive.get(node.name, False) | lives
    return [_health(node, sums[node.name], alive[node.name]) for node in model.graph.nodes], count


def _health(node: Node, parts: Array, alive: Array) -> Health:
    total, values_sum, squares, zeros, ends = (float(part) for part in parts)
    mean = values_sum / total
    deviation = math.sqrt(max(0.0, squares / total - mean * mean))
    dead = tuple(np.flatnonzero(~alive).tolist())
    return Health(node.name, mean, deviation, zeros / total, dead, len(alive), ends / total)


def ailing(graph: Graph, found: Sequence[Health]) -> list[str]:
    """Return a sentence for each layer with dead units, and for each saturated one except the output.

    Layers that only pass on dead units, such as a pooling, are left out.
    """
    lines = []
    for layer in found:
        node = graph.node(layer.layer)
        if layer.dead and (node.params or node.layer.rectifies):
            numbers = first_names(layer.dead, MOST_DEAD)
            lines.append(f"{layer.layer}: {len(layer.dead)} of {layer.units} units are 0 for every image: {numbers}")
        if layer.saturated > SATURATED and layer.layer != graph.output_name:
            lines.append(f"{layer.layer}: {layer.saturated:.0%} of its values lie at an end of its range")
    return lines
