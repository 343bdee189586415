"""A person at an editor: types texts character by character, deletes, pastes, and asks for everything at the cursor."""

from __future__ import annotations

import random
from collections.abc import Iterator

from lsprotocol import types

from cnnspec.lsp.actions import actions, layout
from cnnspec.lsp.analysis import Trust
from cnnspec.lsp.completion import completion
from cnnspec.lsp.diagnostics import diagnostics
from cnnspec.lsp.documents import Document, Documents
from cnnspec.lsp.hints import hints
from cnnspec.lsp.hover import hover
from cnnspec.lsp.lens import lenses
from cnnspec.lsp.navigation import definition, references, rename
from cnnspec.lsp.outline import folds, selections, symbols
from cnnspec.lsp.tokens import tokens

EVERYTHING = types.Range(types.Position(0, 0), types.Position(100_000, 0))


def typed(text: str, step: int) -> Iterator[str]:
    """A text as it grows, some characters at a time."""
    yield from (text[:end] for end in range(step, len(text), step))
    yield text


def mangled(text: str, rng: random.Random, edits: int) -> Iterator[str]:
    """A text in which one stretch after the other is deleted, or pasted somewhere else; from time to time as it was."""
    before = text
    for _ in range(edits):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((1, 1, 2, 5, 20, 100)))
        if rng.random() < 0.5:
            text = text[:start] + text[end:]
        else:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + text[start:end] + text[at:]
        if len(text) > 2 * len(before) or rng.random() < 0.05:
            text = before
        yield text


def ask_everything(documents: Documents, document: Document, offset: int) -> None:
    """Ask all that an editor would, with the cursor at an offset."""
    before = document.text.text[:offset].split("\n")
    position = document.text.position(len(before), len(before[-1]) + 1)
    here = types.Range(position, position)
    diagnostics(documents, document)
    hints(document, EVERYTHING)
    hover(document, position)
    completion(document, position, snippets=True)
    request = types.CodeActionParams(types.TextDocumentIdentifier(document.uri), here, types.CodeActionContext([]))
    actions(document, request)
    definition(documents, document, position)
    references(documents, document, position, True)
    rename(documents, document, position, "another")
    symbols(document)
    folds(document)
    selections(document, [position])
    lenses(document)
    tokens(documents, document)
    layout(document)


def opened(uri: str, text: str) -> tuple[Documents, Document]:
    """A document that an editor has opened."""
    documents = Documents(Trust())
    (document,) = documents.put(uri, text, 1, "cnnspec")
    return documents, document
