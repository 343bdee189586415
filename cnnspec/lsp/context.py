"""Finds where the cursor stands in an unfinished text: the text above it is read with a mark in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cnnspec.diagnostics import SpecError
from cnnspec.lsp.cursor import Step
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

MARK = "cursor-stands-here"
CLOSING = {"[": "]", "{": "}"}
_WORD = re.compile(r"[\w.-]*\Z")
_OPENS_VALUE = re.compile(r"[\s:,\[{-]")


@dataclass(frozen=True, slots=True)
class Context:
    """A place where a key or a value is expected: the steps to it, and the tree of the text above with the mark."""

    steps: tuple[Step, ...]
    tree: Tree
    is_key: bool
    word: str  # the part that is written already
    in_flow: bool


def contexts(before: str) -> list[Context]:
    """Return what may follow a text: a key, a value or, at the start of an item, both; nothing within quotes."""
    word = _WORD.search(before)
    assert word is not None
    start = before[: word.start()]
    brackets = _open_brackets(start)
    if brackets is None:
        return []
    closing = "".join(CLOSING[bracket] for bracket in reversed(brackets))
    result: dict[tuple[tuple[Step, ...], bool], Context] = {}
    for mark in (MARK, f"{MARK}: "):
        try:
            tree = read(start + mark + closing, "")
        except SpecError:
            continue
        for steps, is_key in _marks(tree, ()):
            result.setdefault((steps, is_key), Context(steps, tree, is_key, word[0], bool(brackets)))
    return list(result.values())


def _marks(tree: Tree, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], bool]]:
    """Yield the steps to the mark, without the mark itself if it is a key, and whether it is one."""
    match tree:
        case Scalar(value=value) if value == MARK:
            yield steps, False
        case Items():
            for number, item in enumerate(tree.items):
                yield from _marks(item, (*steps, number))
        case Mapping():
            for key, value in tree.values.items():
                if key == MARK:
                    yield steps, True
                yield from _marks(value, (*steps, key))


def _open_brackets(text: str) -> list[str] | None:
    """Return the brackets that are open at the end of a text; None if it ends in quotes or a comment."""
    brackets: list[str] = []
    at, last = 0, "\n"
    while at < len(text):
        character, end = text[at], at
        if character == "#" and last.isspace():
            end = text.find("\n", at)
        elif character in "'\"" and _OPENS_VALUE.match(last):
            end = _closing_quote(text, at)
        elif text.startswith("${", at):
            end = text.find("}", at)
        elif character in CLOSING and _OPENS_VALUE.match(last):
            brackets.append(character)
        elif brackets and character == CLOSING[brackets[-1]]:
            brackets.pop()
        if end < 0:
            return None
        last, at = text[end], end + 1
    return brackets


def _closing_quote(text: str, start: int) -> int:
    """Return the position of the quote that closes the one at `start`; -1 if it is not closed."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 1
        elif text[at] == quote:
            if quote == '"' or text[at : at + 2] != "''":
                return at
            at += 1
        at += 1
    return -1
