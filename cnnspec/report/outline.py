"""The content of a network's picture: boxes for layers, arrows for values, and frames around the layers of a block.

A layer's id says where it lies: `stage1.2.residual_1.conv2d_1` lies in stage1, in stage1.2 and in its residual_1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.shapes import Shape, text


@dataclass(frozen=True, slots=True)
class Box:
    """One layer, or the input: its name, its type, and its figures."""

    name: str
    title: str
    details: tuple[str, ...]
    frame: str  # the innermost, "" outside of all


@dataclass(frozen=True, slots=True)
class Arrow:
    """A value that one layer passes to another, with its shape."""

    source: str
    target: str
    shape: str


@dataclass(frozen=True, slots=True)
class Outline:
    """All boxes, arrows and frames of a picture, in the order of the graph."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    frames: tuple[str, ...]  # frames, each after those around it
    inside: Mapping[str, Sequence[Box | str]]  # the items directly in a frame; "" is outside of all frames


def outline(graph: Graph) -> Outline:
    """Return the boxes, arrows and frames of a graph's picture, for any format."""
    shapes: dict[str, Shape] = {INPUT: graph.input_shape, **{node.name: node.shape for node in graph.nodes}}
    frames: dict[str, None] = {}
    # A layer that is given an activation is named as a frame would be, and is none.
    layers = {node.name for node in graph.nodes if len(node.inputs) == 1}
    for node in graph.nodes:
        frames |= dict.fromkeys(prefix for prefix in _prefixes(node.name) if prefix not in layers)
    listed = tuple(frames)
    boxes = [Box(INPUT, INPUT, (text(graph.input_shape),), "")]
    boxes += [Box(node.name, _title(node), tuple(_figures(node)), _frame(node.name, frames)) for node in graph.nodes]
    arrows = [Arrow(source, node.name, text(shapes[source])) for node in graph.nodes for source in node.inputs]
    inside: dict[str, list[Box | str]] = {"": []}
    for box in boxes:
        chain = ["", *chain_of(box.frame, frames)]
        for around, frame in pairwise(chain):
            if frame not in inside:
                inside[frame] = []
                inside[around].append(frame)
        inside[chain[-1]].append(box)
    return Outline(graph.name, tuple(boxes), tuple(arrows), listed, inside)


def chain_of(frame: str, frames: Collection[str]) -> list[str]:
    """Return the frames around a frame, from the outermost on, and the frame itself."""
    return [prefix for prefix in (*_prefixes(frame), frame) if prefix in frames]


def parent(frame: str, frames: Collection[str]) -> str:
    """Return the frame around a frame; "" if there is none."""
    return next((prefix for prefix in reversed(list(_prefixes(frame))) if prefix in frames), "")


def _frame(name: str, frames: Collection[str]) -> str:
    if name in frames:  # the merge of a residual or of branches is the last box in its frame
        return name
    return parent(name, frames)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])


def _title(node: Node) -> str:
    """Return a layer's title, such as `conv2d 3x3 /2 64`: its type and the main fields."""
    layer = node.layer
    words = [layer.type_name]
    kernel, stride = getattr(layer, "kernel_size", None), getattr(layer, "stride", None)
    if kernel is not None:
        words.append(text(kernel))
    if stride is not None and stride not in ((1, 1), kernel):
        words.append(f"/{stride[0]}" if stride[0] == stride[1] else f"/{text(stride)}")
    for field_ in ("filters", "units"):
        if hasattr(layer, field_):
            words.append(str(getattr(layer, field_)))
    if getattr(layer, "groups", 1) > 1:
        words.append(f"g{layer.groups}")  # type: ignore[attr-defined]
    return " ".join(words)


def _figures(node: Node) -> Iterator[str]:
    if node.parameter_count:
        yield f"{short(node.parameter_count)} params"
    if node.macs:
        yield f"{short(node.macs)} MACs"


def short(count: int) -> str:
    """Return a count with three digits: `25.6M` for 25557032."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
