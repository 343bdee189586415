"""Snippets: texts with placeholders that the user overwrites, in the syntax of editors."""

from __future__ import annotations

import re
from typing import Any

from cnnspec.fields import Json


def placeholder(part: Json, number: int = 1) -> str:
    """Return a placeholder for a value: with its default, with a choice of its values, or empty."""
    if "default" in part and part["default"] is not None:
        return f"${{{number}:{_escaped(text_of(part['default']))}}}"
    if "enum" in part and len(part["enum"]) < 10:
        return f"${{{number}|{','.join(text_of(value) for value in part['enum'])}|}}"
    return f"${{{number}}}"


def nested(name: str, line: str) -> str:
    """Return the text of a residual or branches with empty lists, indented below the item in a line."""
    indent = " " * (len(line) - len(line.lstrip()) + 2 if line.lstrip().startswith("-") else 0)
    if name == "residual":
        return f"type: residual\n{indent}body:\n{indent}  - $1"
    return f"type: parallel\n{indent}branches:\n{indent}  - - $1\n{indent}  - []"


def text_of(value: Any) -> str:
    """Return a value as a spec writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(text_of, value))}]"
    return str(value)


def _escaped(text: str) -> str:
    return re.sub(r"([\\$}])", r"\\\1", text)


def bare(snippet: str) -> str:
    """Return a snippet as plain text, in which placeholders are replaced by their defaults."""
    plain_text = re.sub(r"\$\{\d+\|([^,|]*)[^|]*\|\}", r"\1", snippet)
    return re.sub(r"\$\{\d+:?((?:\\.|[^}\\])*)\}|\$\d", lambda stop: stop[1] or "", plain_text)
