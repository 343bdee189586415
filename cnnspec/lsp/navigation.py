"""Definitions, references and renames, across a spec, the files it extends, and specs nearby that extend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from cnnspec.diagnostics import Span, SpecError
from cnnspec.diagnostics.source import source_lines
from cnnspec.lsp.documents import Document, Documents
from cnnspec.lsp.names import Occurrence, occurrences, replaced
from cnnspec.lsp.text import within
from cnnspec.spec.blocks import SHIPPED
from cnnspec.spec.grammar import NAME_WORDS, VARIABLE_WORDS, is_name, is_variable
from cnnspec.spec.inherit import lineage, merged
from cnnspec.spec.reader import read, read_text
from cnnspec.spec.tree import Tree

MOST_HEIRS = 200  # most files searched below the folder of a definition
_EXTENDS = re.compile(r"extends\s*:\s*[\"']?(?P<path>[^\"'#\n]*[^\"'#\s])")


def definition(documents: Documents, document: Document, position: types.Position) -> types.Location | None:
    """Return where the name at a position is defined; for `extends`, the file."""
    line, column = document.text.place(position)
    extended = _EXTENDS.match(document.text.line(line))
    if extended is not None and extended.start("path") < column <= extended.end("path") + 1:
        file = str(Path(document.file).parent / extended["path"])
        return types.Location(documents.uri_of(file), types.Range(types.Position(0, 0), types.Position(0, 0)))
    occurrence = _occurrence_at(documents, document, position)
    return None if occurrence is None else _location(documents, occurrence.definition)


def references(
    documents: Documents, document: Document, position: types.Position, definition: bool
) -> list[types.Location]:
    """Return every place of the name at a position, with or without its definition."""
    occurrence = _occurrence_at(documents, document, position)
    if occurrence is None:
        return []
    spans, definitions = _everywhere(documents, document, occurrence)
    return [_location(documents, span) for span in spans if definition or span not in definitions]


def renamable(documents: Documents, document: Document, position: types.Position) -> types.Range | None:
    """Return the range of the name at a position if a spec defines it; None for names of shipped blocks."""
    occurrence = _occurrence_at(documents, document, position)
    ours = occurrence is not None and occurrence.definition.file != str(SHIPPED) and document.analysis.tree is not None
    return document.text.range(occurrence.span) if occurrence is not None and ours else None


def rename(documents: Documents, document: Document, position: types.Position, name: str) -> types.WorkspaceEdit | None:
    """Rename the name at a position in every file that uses it; an error if the new name is not valid."""
    occurrence = _occurrence_at(documents, document, position)
    if occurrence is None or renamable(documents, document, position) is None:
        return None
    plain = occurrence.kind in ("variable", "parameter")
    if not (is_variable(name) if plain else is_name(name)):
        raise JsonRpcInvalidParams(f"expected {VARIABLE_WORDS if plain else NAME_WORDS}, got '{name}'")
    changes: dict[str, list[types.TextEdit]] = {}
    for span in _everywhere(documents, document, occurrence)[0]:
        edit = types.TextEdit(_location(documents, span).range, name)
        changes.setdefault(documents.uri_of(span.file), []).append(edit)
    return types.WorkspaceEdit(changes)


def names_of(documents: Documents, document: Document) -> list[Occurrence]:
    """Return the names in the last readable version of a document."""
    known = document.parsed
    return [] if known is None or known.tree is None else occurrences(known.tree, _line_of)


def _line_of(file: str, number: int) -> str:
    lines = source_lines(file)
    return lines[number - 1] if number <= len(lines) else ""


def _occurrence_at(documents: Documents, document: Document, position: types.Position) -> Occurrence | None:
    """Return the name at a position; None if there is none, or if the text cannot be read."""
    if document.analysis.tree is None:
        return None
    line, column = document.text.place(position)
    names_here = (name for name in names_of(documents, document) if name.span.file == document.file)
    return next((name for name in names_here if within(name.span, line, column)), None)


def _location(documents: Documents, span: Span) -> types.Location:
    return types.Location(documents.uri_of(span.file), documents.text_of(span.file).range(span))


def _everywhere(documents: Documents, document: Document, wanted: Occurrence) -> tuple[list[Span], set[Span]]:
    """Return all places of a name in a document, its bases and their heirs; and the places that define it."""
    known = document.analysis.lineage
    names, same = names_of(documents, document), list(replaced(known))
    definitions = _joined({wanted.definition}, same)
    if wanted.definition.file != str(SHIPPED):
        for trees in _family(documents, document, {span.file for span in definitions}):
            names += occurrences(merged(trees), _line_of)
            same += replaced(trees)
        definitions = _joined(definitions, same)
    return sorted(definitions.union(name.span for name in names if name.definition in definitions)), definitions


def _joined(definitions: set[Span], same: Sequence[tuple[Span, Span]]) -> set[Span]:
    """Return the definitions with all others that are linked to them by pairs of the same name."""
    more = {span for pair in same if not definitions.isdisjoint(pair) for span in pair}
    return definitions if more <= definitions else _joined(definitions | more, same)


def _family(documents: Documents, document: Document, files: set[str]) -> Iterator[Sequence[Tree]]:
    """Yield the lineages of other open specs, of these files, and of specs below their folders that extend another."""
    for other in documents:
        known = other.parsed
        if other is not document and known is not None:
            yield known.lineage
    below = {path for file in files for path in sorted(Path(file).parent.rglob("*.y*ml"))[:MOST_HEIRS]}
    for path in sorted(below.difference(Path(other.file) for other in documents)):
        try:
            text = read_text(path, str(path))
            if str(path) in files or re.search(r"^extends\s*:", text, re.MULTILINE):
                yield lineage(read(text, str(path)), str(path), outside=documents.trust.allow_outside)
        except (SpecError, OSError):
            continue
