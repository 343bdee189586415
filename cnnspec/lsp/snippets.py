"""Snippets: texts with stops that are typed over, as editors fill them in."""

from __future__ import annotations

import re
from typing import Any

from cnnspec.fields import Json


def placeholder(part: Json, number: int = 1) -> str:
    """The value of a key in a snippet: its default, one of the values that it may have, or nothing."""
    if "default" in part and part["default"] is not None:
        return f"${{{number}:{_escaped(text_of(part['default']))}}}"
    if "enum" in part and len(part["enum"]) < 10:
        return f"${{{number}|{','.join(text_of(value) for value in part['enum'])}|}}"
    return f"${{{number}}}"


def nested(name: str, line: str) -> str:
    """A residual or branches with the lists in them, under the item that begins in a line."""
    indent = " " * (len(line) - len(line.lstrip()) + 2 if line.lstrip().startswith("-") else 0)
    if name == "residual":
        return f"type: residual\n{indent}body:\n{indent}  - $1"
    return f"type: parallel\n{indent}branches:\n{indent}  - - $1\n{indent}  - []"


def text_of(value: Any) -> str:
    """A value as a spec says it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(text_of, value))}]"
    return str(value)


def _escaped(text: str) -> str:
    return re.sub(r"([\\$}])", r"\\\1", text)


def bare(snippet: str) -> str:
    """A snippet for an editor that knows none: without its stops, with the defaults in them."""
    plain_text = re.sub(r"\$\{\d+\|([^,|]*)[^|]*\|\}", r"\1", snippet)
    return re.sub(r"\$\{\d+:?((?:\\.|[^}\\])*)\}|\$\d", lambda stop: stop[1] or "", plain_text)
