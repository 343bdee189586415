"""Makes warnings about a place and about a layer, and finds the layers that read a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from cnnspec.diagnostics import Diagnostic, Span
from cnnspec.graph.node import Graph, Node
from cnnspec.spec.place import Place


def readers(graph: Graph) -> Mapping[str, list[Node]]:
    """Return the nodes that read each value, a node once for each of its inputs that is the value."""
    nodes: defaultdict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            nodes[name].append(node)
    return nodes


def warning(code: str, message: str, span: Span, place: Place, help: str, path: str | None = None) -> Diagnostic:
    """Make a warning about a place in the spec."""
    return Diagnostic(code, "warning", message, span, path or place.path, help, (), place.uses)


def at(node: Node, code: str, message: str, help: str, key: str | None = None) -> Iterator[Diagnostic]:
    """Yield a warning about a layer, at the place of `key` if the spec has it; nothing for a layer from no file."""
    if node.place is not None:
        text = f"{node.layer.type_name} '{node.name}': {message}"
        yield warning(code, text, node.place.of(key), node.place, help)
