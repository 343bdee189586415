"""Source that a page quotes, and what its programs print: `python -m tests.book` writes both into the pages.

A line such as "From `cnnspec/layers/dense.py`, `Dense.forward`:" is followed by a block with that source; a block of
Python is followed by a block `text` with what it prints.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import textwrap
from functools import reduce
from typing import Any

from tests.book.pages import GUIDE, NAMES, text

QUOTE = re.compile(r"^(From `(\S+)\.py`, `(\S+)`:\n\n```python\n)((?:(?!```).*\n)*)```$", re.MULTILINE)
PRINTED = re.compile(r"(^```python\n((?:(?!```).*\n)*)```\n\n```text\n)((?:(?!```).*\n)*)```$", re.MULTILINE)


def quoted(page: str) -> str:
    """The page with every quotation as the source is."""
    return QUOTE.sub(lambda found: f"{found[1]}{_source(found[2], found[3])}```", page)


def printed(page: str) -> str:
    """The page with what its programs print, each of which knows the names of those above it."""
    names: dict[str, Any] = {}

    def run(found: re.Match[str]) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(found[2], "guide", "exec"), names)
        return f"{found[1]}{output.getvalue()}```"

    return PRINTED.sub(run, page)


def _source(path: str, name: str) -> str:
    module = importlib.import_module(path.replace("/", "."))
    return textwrap.dedent(inspect.getsource(reduce(getattr, name.split("."), module)))


def write() -> None:
    """Bring every page up to date."""
    for name in NAMES:
        (GUIDE / f"{name}.md").write_text(printed(quoted(text(name))), encoding="utf-8")
