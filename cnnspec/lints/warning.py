"""The two kinds of warning, about a place and about a layer, and who reads a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from cnnspec.diagnostics import Diagnostic, Span
from cnnspec.graph.node import Graph, Node
from cnnspec.spec.place import Place


def readers(graph: Graph) -> Mapping[str, list[Node]]:
    """Return the readers of every value, a node once for each time that it reads it, in one pass over the graph."""
    found: defaultdict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            found[name].append(node)
    return found


def warning(code: str, message: str, span: Span, place: Place, help: str, path: str | None = None) -> Diagnostic:
    """Make a warning about a place in the spec."""
    return Diagnostic(code, "warning", message, span, path or place.path, help, (), place.uses)


def at(node: Node, code: str, message: str, help: str, key: str | None = None) -> Iterator[Diagnostic]:
    """Yield a warning about a layer, at `key` where the spec has that key; nothing where no file gave the layer."""
    if node.place is not None:
        text = f"{node.layer.type_name} '{node.name}': {message}"
        yield warning(code, text, node.place.of(key), node.place, help)
