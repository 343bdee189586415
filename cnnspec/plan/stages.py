"""One shard on two members: layers that are computed by rows, each member its own, and where the members meet.

A row is what the first axis of an array counts: a row of a map, a feature of a vector. Layers whose second half of rows
reads no row of the first half's, such as an activation behind a convolution, follow one another without a meeting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnspec.graph import Graph, Node
from cnnspec.kernels.machine import current
from cnnspec.layers.base import Mode, Part
from cnnspec.shapes import size

MEMBERS = 2
LEAST = 5_000  # nanoseconds: layers that take less are not worth the calls that are made twice, and a meeting


@dataclass(frozen=True)
class Cut:
    """The rows of a layer that one member computes, and what computes them."""

    rows: slice
    part: Part


@dataclass
class Stage:
    """Nodes between two meetings: with cuts, one for each member, or all of them the first member's."""

    nodes: list[Node]
    cuts: dict[str, tuple[Cut, ...]] = field(default_factory=dict)

    def joins(self, node: Node, cuts: Sequence[Cut]) -> bool:
        """Whether no member reads of this stage's values what the other one computes."""
        made = [self.cuts[name] for name in node.inputs if name in self.cuts]
        return all(
            own.part.view is None and own.rows.start <= cut.part.reads.start and cut.part.reads.stop <= own.rows.stop
            for pair in made
            for own, cut in zip(pair, cuts, strict=True)
        )


def stages(graph: Graph, n: int, mode: Mode) -> list[Stage]:
    """The nodes of a graph for a shard of n images, in their order; the team's size has no say in it."""
    found: list[Stage] = []
    for node in graph.nodes:
        last = found[-1] if found else None
        if last is not None and last.cuts:
            joined = next((cuts for cuts in _cuts(node, n, mode) if last.joins(node, cuts)), None)
            if joined is not None:
                last.nodes.append(node)
                last.cuts[node.name] = joined
                continue
        cuts = next(_cuts(node, n, mode), None) if _nanoseconds(node, n) >= LEAST else None
        if cuts is not None:
            found.append(Stage([node], {node.name: cuts}))
        elif last is not None and not last.cuts:
            last.nodes.append(node)
        else:
            found.append(Stage([node]))
    return found


def _cuts(node: Node, n: int, mode: Mode) -> Iterator[tuple[Cut, ...]]:
    """Ways to cut a node's rows in two, the most even ones first."""
    count = node.layer.height(*node.input_shapes)
    for distance in range(count // 4 + 1):
        for first in sorted({count // 2 - distance, -(-count // 2) + distance}):
            if 0 < first < count:
                rows = slice(0, first), slice(first, count)
                parts = [node.layer.part(part, *node.input_shapes, n=n, mode=mode) for part in rows]
                whole = [Cut(own, part) for own, part in zip(rows, parts, strict=True) if part is not None]
                if len(whole) == MEMBERS:
                    yield tuple(whole)


def _nanoseconds(node: Node, n: int) -> float:
    """About how long a node takes on one member: its products, and what it reads and writes."""
    moved = sum(size(shape) for shape in (*node.input_shapes, node.shape)) * n + node.parameter_count
    machine = current()
    return node.macs * n * machine.mac + moved * machine.moved
