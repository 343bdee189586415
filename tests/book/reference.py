"""guide/reference.md, made of what is registered: `python -m tests.book` writes it."""

from __future__ import annotations

import inspect
import re

from cnnspec import registry
from cnnspec.pages import NESTED, SECTIONS
from cnnspec.spec.blocks import shipped
from cnnspec.spec.suggest import plural
from tests.book.pages import GUIDE

PAGE = GUIDE / "reference.md"
ABOVE = """\
# All that a spec can name

A line each; `cnnspec explain NAME` has the page, with the fields, their defaults, the shapes, the source of the formula
and an example, and `cnnspec explain NAME --code` the code. Names of your own come by [plugins](plugins.md).

"""
BELOW = """\
Where to go next: [the language](language.md), [words](words.md) of other frameworks, [how a CNN works](network.md).
"""


def reference() -> str:
    """The page: a table for each kind, in the order of the alphabet."""
    kinds = {kind: {name: _line(cls) for name, cls in registry.table(kind).items()} for kind in registry.PACKAGES}
    parts = [_table(plural(kind).capitalize(), lines) for kind, lines in kinds.items()]
    parts.insert(1, _table("Layers of layers", {name: text.splitlines()[0] for name, text in NESTED.items()}))
    parts.append(_table("Sections", {name: _line(cls) for name, cls in SECTIONS.items()}))
    blocks = ", ".join(f"`{name}`" for name in sorted(shipped().values))
    parts.append(f"## Blocks\n\nUsed by their name, without a definition: {blocks}.\n")
    return ABOVE + "\n".join([*parts, BELOW])


def _line(cls: type) -> str:
    return re.sub(r"([|*])", r"\\\1", (inspect.getdoc(cls) or "").splitlines()[0])


def _table(title: str, lines: dict[str, str]) -> str:
    rows = [f"| `{name}` | {line} |" for name, line in sorted(lines.items())]
    return "\n".join([f"## {title}", "", "| name | what it is |", "|---|---|", *rows, ""])
