"""Hover: the page on what is at a position, with its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol import types

from cnnspec import registry
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.silence import IGNORE
from cnnspec.lsp.cursor import Cursor, find
from cnnspec.lsp.documents import Document
from cnnspec.lsp.figures import figures
from cnnspec.lsp.hints import table
from cnnspec.lsp.names import EXPRESSION
from cnnspec.lsp.schema import Schema
from cnnspec.pages import NESTED, page
from cnnspec.plugins import using
from cnnspec.spec.arriving import AXES
from cnnspec.spec.blocks import shipped
from cnnspec.spec.tree import Mapping, Scalar, Tree, plain

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def hover(document: Document, position: types.Position) -> types.Hover | None:
    """Return the page on the key, the value or the comment at a position; None if there is none."""
    line, column = document.text.place(position)
    text = _comment(document.text.line(line), column)
    known = document.parsed
    before = known and document.lines_of(known).earlier(line)
    if text is None and known is not None and known.tree is not None and before:
        cursor = find(known.tree, document.file, before, column)
        plugins = known.trace.spec.plugins if known.trace is not None else ()
        with using(plugins):
            text = (cursor and "\n\n".join(_descriptions(document, known.tree, cursor, before, column))) or None
    return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text)) if text else None


def _comment(line: str, column: int) -> str | None:
    """Return the page on a code within a comment that silences it."""
    match = IGNORE.search(line)
    for code in re.finditer(r"[^\s,]+", match[2]) if match else ():
        assert match is not None
        start = match.start(2) + code.start() + 1
        if start <= column <= start + len(code[0]) and code[0] in CATALOGUE:
            return block(page(code[0]) or "")
    return None


def _descriptions(document: Document, tree: Tree, cursor: Cursor, line: int, column: int) -> Iterator[str]:
    if cursor.on_key:
        yield from key_page(tree, cursor)
        return
    yield from _figures(document, cursor)
    if not isinstance(cursor.value, Scalar) or not isinstance(cursor.value.value, str):
        yield from key_page(tree, cursor)
        return
    word = cursor.value.value
    name = variable_at(document.text.line(line), column)
    if name is not None:
        yield from _variable(tree, name)
    elif own_block(tree, word) is not None:
        yield f"block `{word}` of this spec"
    elif word in shipped().values or word in NESTED or _is_type(word):
        yield block(page(word) or "")
    else:
        yield from key_page(tree, cursor)


def key_page(tree: Tree, cursor: Cursor) -> Iterator[str]:
    """Yield the schema's description and default of the key at a place, or of the key whose value is there."""
    steps = cursor.steps
    while steps and isinstance(steps[-1], int):
        steps = steps[:-1]
    if not steps:
        return
    lines = [part["description"] for part in Schema().at(steps, plain(tree)) if "description" in part]
    yield f"`{steps[-1]}`" + (f": {lines[0]}" if lines else "")
    defaults = [part["default"] for part in Schema().at(steps, plain(tree)) if "default" in part]
    if defaults:
        yield f"default: `{defaults[0]}`"


def variable_at(line: str, column: int) -> str | None:
    """Return the name that an expression reads at a column of a line; None if there is none."""
    for expression in EXPRESSION.finditer(line):
        for name in _NAME.finditer(line, expression.start(), expression.end()):
            if name.start() <= column <= name.end() + 1:
                return name[0]
    return None


def own_block(tree: Tree, name: str) -> Tree | None:
    """Return the block of that name that a spec defines; None if there is none."""
    blocks = tree.get("blocks") if isinstance(tree, Mapping) else None
    return blocks.get(name) if isinstance(blocks, Mapping) else None


def block(text: str) -> str:
    """Return a page as a code block of Markdown."""
    return f"```text\n{text}\n```"


def _is_type(word: str) -> bool:
    return any(word in registry.table(kind) for kind in registry.PACKAGES)


def _figures(document: Document, cursor: Cursor) -> Iterator[str]:
    """Yield the table of figures of the layer at a place."""
    known = document.followed
    if known is None or known is not document.parsed or known.trace is None:
        return
    found = figures(known.trace)
    here = next((found[tree.span] for tree in reversed(cursor.trees) if tree.span in found), None)
    if here:
        yield table(here)


def _variable(tree: Tree, name: str) -> Iterator[str]:
    given = tree.get("vars") if isinstance(tree, Mapping) else None
    value = given.get(name) if isinstance(given, Mapping) else None
    if value is not None:
        yield f"`{name}`: {plain(value)}, of `vars`"
    elif name in AXES:
        yield f"`{name}`: the {AXES[name]} of what arrives here"
    elif name == "index":
        yield "`index`: the number of the repetition, from 0"
    else:
        yield f"`{name}`: a parameter of the block"
