"""Collects the source of functions, and of all functions that they call, for a generated program."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent


def copied(names: Collection[str], *files: str) -> list[str]:
    """Return the source of these functions and of those that they call, in the order of the files.

    The files lie beside this one; if two define a function of the same name, the last one is used.
    """
    functions: dict[str, str] = {}
    for file in files:
        functions |= _functions((FOLDER / file).read_text(encoding="utf-8"))
    waiting, copied_names = sorted(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in copied_names:
            copied_names.add(name)
            waiting += _names(functions[name])
    return [source for name, source in functions.items() if name in copied_names]


def _functions(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines(keepends=True)
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, "".join(lines[statement.lineno - 1 : statement.end_lineno])


def _names(source: str) -> list[str]:
    """Return the names that a piece of source code reads."""
    return [node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
