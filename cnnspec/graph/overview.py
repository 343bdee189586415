"""A network as a table: each layer with its type, output, parameters and multiply-accumulates, as text and as HTML."""

from __future__ import annotations

from html import escape

from cnnspec.graph.node import Graph
from cnnspec.shapes import text

HEADINGS = ("layer", "type", "output", "parameters", "MACs")


def overview(graph: Graph) -> str:
    """Return the table as lines of text, with the totals last."""
    rows = [HEADINGS, *_rows(graph)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def overview_html(graph: Graph) -> str:
    """Return the table as HTML, for notebooks."""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(graph))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _rows(graph: Graph) -> list[tuple[str, ...]]:
    rows = [
        (node.name, node.layer.type_name, text(node.shape), f"{node.parameter_count:,}", f"{node.macs:,}")
        for node in graph.nodes
    ]
    total = ("in all", "", text(graph.output.shape), f"{graph.parameter_count:,}", f"{graph.macs:,}")
    return [*rows, total]
