"""Inlay hints after each layer: its output shape, its parameters and its multiply-accumulates."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from lsprotocol import types

from cnnspec.diagnostics import Span
from cnnspec.lsp.documents import Document
from cnnspec.lsp.figures import Figures, figures

MOST_TOLD = 20  # most uses of a block in a tooltip
_CODE = re.compile(r"^(.*?)\s*(?:\s#.*)?$")


def hints(document: Document, range: types.Range) -> list[types.InlayHint]:
    """Return the hints in a range; for an unreadable text, those of its last good version on unchanged lines."""
    return [hint for hint in _hints(document) if range.start.line <= hint.position.line <= range.end.line]


def _hints(document: Document) -> Iterator[types.InlayHint]:
    known = document.followed
    if known is None or known.trace is None:
        return
    lines = document.lines_of(known)
    starting: dict[int, list[tuple[Span, list[Figures]]]] = defaultdict(list)
    for span, found in sorted(figures(known.trace).items()):
        line = lines.later(span.line)
        if span.file == document.file and line is not None:
            starting[line].append((span, found))
    for line, entries in starting.items():
        outermost = [
            (span, found)
            for span, found in entries
            if not any(other < span and _around(other, span) for other, _ in entries)
        ]
        end = _CODE.match(document.text.line(line))
        behind = len(end[1]) + 1 if end else 1
        for span, found in outermost:
            several = len(outermost) > 1 and span.end_line == span.line
            yield _hint(document.text.position(line, span.end_column if several else behind), found)


def _around(outer: Span, inner: Span) -> bool:
    return (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)


def _hint(position: types.Position, found: list[Figures]) -> types.InlayHint:
    first, *others = found
    more = f", +{len(others)} more" if others else ""
    return types.InlayHint(
        position,
        f"\N{RIGHTWARDS ARROW} {first}{more}",
        padding_left=True,
        tooltip=types.MarkupContent(types.MarkupKind.Markdown, table(found)),
    )


def table(found: list[Figures]) -> str:
    """Return a Markdown table of figures, with a row for each use of an entry."""
    rows = [f"| {one.name} | {_shape(one)} | {one.params:,} | {one.macs:,} |" for one in found[:MOST_TOLD]]
    rows += [f"| {len(found) - MOST_TOLD} more | | | |"] if len(found) > MOST_TOLD else []
    return "\n".join(["| layer | output | parameters | MACs an image |", "|---|--:|--:|--:|", *rows])


def _shape(one: Figures) -> str:
    return "unknown" if one.shape is None else "x".join(map(str, one.shape))
