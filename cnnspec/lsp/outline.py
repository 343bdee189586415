"""The outline of a text: symbols, foldable ranges, and the steps in which a selection grows."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from cnnspec.diagnostics import Span
from cnnspec.lsp.cursor import find
from cnnspec.lsp.documents import Document
from cnnspec.lsp.figures import Figures, figures
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, plain

Kind = types.SymbolKind
KINDS = {"vars": Kind.Variable, "blocks": Kind.Module}
LISTS = ("layers", "body")


def symbols(document: Document) -> list[types.DocumentSymbol]:
    """Return the sections of a spec, with their variables, blocks and layers; empty for a text that cannot be read."""
    known = document.analysis
    shapes = figures(known.trace) if known.trace is not None else {}
    return list(_Outline(document, shapes).sections(known.tree)) if known.tree is not None else []


class _Outline:
    def __init__(self, document: Document, shapes: dict[Span, list[Figures]]) -> None:
        self.document, self.shapes = document, shapes

    def sections(self, tree: Tree) -> Iterator[types.DocumentSymbol]:
        for key, value, span in self.entries(tree):
            inside: list[types.DocumentSymbol] = []
            if key in KINDS:
                for name, given, at in self.entries(value):
                    layers = self.layers(given.get("layers")) if isinstance(given, Mapping) else ()
                    inside.append(self.symbol(name, KINDS[key], at, given, list(layers)))
            elif key == "layers":
                inside = list(self.layers(value))
            yield self.symbol(key, Kind.Namespace, span, value, inside)

    def entries(self, tree: Tree) -> Iterator[tuple[str, Tree, Span]]:
        """Yield the keys of a mapping that are written in this file, with their values and places."""
        for key, value in tree.values.items() if isinstance(tree, Mapping) else ():
            span = tree.keys[key] if isinstance(tree, Mapping) else value.span
            if span.file == self.document.file:
                yield key, value, span

    def layers(self, tree: Tree | None) -> Iterator[types.DocumentSymbol]:
        for item in tree.items if isinstance(tree, Items) else ():
            if item.span.file != self.document.file:
                continue
            given = item if isinstance(item, Mapping) else Mapping({}, {}, item.span)
            word = given.get("type") or given.get("use") or item
            kind = str(word.value) if isinstance(word, Scalar) else "layers"
            name = given.get("id")
            inside = [symbol for key in LISTS for symbol in self.layers(given.get(key))]
            branches = given.get("branches")
            for branch in branches.items if isinstance(branches, Items) else ():
                inside += self.layers(branch)
            known = self.shapes.get(item.span)
            detail = f"{kind} {known[0]}" if known else kind
            title = kind if name is None else str(plain(name))
            yield self.symbol(title, Kind.Object, item.span, item, inside, detail)

    def symbol(
        self,
        name: str,
        kind: types.SymbolKind,
        span: Span,
        value: Tree,
        inside: list[types.DocumentSymbol],
        detail: str | None = None,
    ) -> types.DocumentSymbol:
        """Return a symbol for a key or an item; if its value is elsewhere, as for an alias, it spans the key alone."""
        is_below = (value.span.file, value.span.line) >= (span.file, span.line) and value.span.file == span.file
        end = value.span if is_below else span
        extent = Span(span.file, span.line, span.column, end.end_line, end.end_column)
        first = (
            extent if span.end_line == span.line else Span(span.file, span.line, span.column, span.line, span.column)
        )
        text = self.document.text
        chosen = text.range(span if span.end_line == span.line else first)
        return types.DocumentSymbol(name or "''", kind, text.range(extent), chosen, detail, children=inside or None)


def folds(document: Document) -> list[types.FoldingRange]:
    """Return a range for every key and item whose value spans several lines."""
    tree = document.analysis.tree
    lines = set(_folds(tree, document.file)) if tree is not None else set()
    return [types.FoldingRange(start - 1, end - 1) for start, end in sorted(lines)]


def _folds(tree: Tree, file: str) -> Iterator[tuple[int, int]]:
    match tree:
        case Mapping():
            for key, value in tree.values.items():
                start, end = tree.keys[key], value.span
                if start.file == end.file == file and end.end_line > start.line:
                    yield start.line, end.end_line
                yield from _folds(value, file)
        case Items():
            for item in tree.items:
                if item.span.file == file and item.span.end_line > item.span.line:
                    yield item.span.line, item.span.end_line
                yield from _folds(item, file)


def selections(document: Document, positions: list[types.Position]) -> list[types.SelectionRange]:
    """Return for each position the range of the key or value there, and the ranges around it."""
    return [_selection(document, position) for position in positions]


def _selection(document: Document, position: types.Position) -> types.SelectionRange:
    line, column = document.text.place(position)
    tree = document.analysis.tree
    cursor = find(tree, document.file, line, column) if tree is not None else None
    selection = types.SelectionRange(document.text.whole)
    for span in [*(tree.span for tree in cursor.trees), cursor.span] if cursor is not None else ():
        range = document.text.range(span)
        inside = _before(selection.range.start, range.start) and _before(range.end, selection.range.end)
        if span.file == document.file and inside and range != selection.range:
            selection = types.SelectionRange(range, selection)
    return selection


def _before(one: types.Position, other: types.Position) -> bool:
    return (one.line, one.character) <= (other.line, other.character)
