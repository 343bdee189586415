"""Semantic tokens: separate colours for ids, blocks, variables and parameters."""

from __future__ import annotations

from lsprotocol import types

from cnnspec.lsp.documents import Document, Documents
from cnnspec.lsp.navigation import names_of

KINDS = {"id": "property", "block": "function", "variable": "variable", "parameter": "parameter"}
MODIFIERS = ("definition",)
LEGEND = types.SemanticTokensLegend(list(KINDS.values()), list(MODIFIERS))


def tokens(documents: Documents, document: Document) -> types.SemanticTokens:
    """Return the names in a text as tokens, each relative to the one before; empty if the text cannot be read."""
    names = names_of(documents, document) if document.analysis.tree is not None else []
    order = list(KINDS)
    data: list[int] = []
    last = types.Position(0, 0)
    behind = (0, 0)
    for one in sorted({name for name in names if name.span.file == document.file}, key=lambda name: name.span):
        if one.span.line != one.span.end_line or (one.span.line, one.span.column) < behind:
            continue
        behind = (one.span.end_line, one.span.end_column)
        place = document.text.range(one.span)
        line = place.start.line - last.line
        character = place.start.character - (0 if line else last.character)
        length = place.end.character - place.start.character
        data += [line, character, length, order.index(one.kind), int(one.span == one.definition)]
        last = place.start
    return types.SemanticTokens(data)
