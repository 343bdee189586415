"""What lints look with, and the forms in which they tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from cnnspec.diagnostics import Diagnostic, Span
from cnnspec.graph.node import Graph, Node
from cnnspec.spec.place import Place


def readers(graph: Graph) -> Mapping[str, list[Node]]:
    """Who reads each value, once for each time; in one pass, where `Graph.consumers` takes one for every value."""
    found: defaultdict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            found[name].append(node)
    return found


def warning(code: str, message: str, span: Span, place: Place, help: str, path: str | None = None) -> Diagnostic:
    """A warning about a place in the spec."""
    return Diagnostic(code, "warning", message, span, path or place.path, help, (), place.uses)


def at(node: Node, code: str, message: str, help: str, key: str | None = None) -> Iterator[Diagnostic]:
    """A warning about a layer, at one of its keys where it has that; none about one that no file gave."""
    if node.place is not None:
        text = f"{node.layer.type_name} '{node.name}': {message}"
        yield warning(code, text, node.place.of(key), node.place, help)
