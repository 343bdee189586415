"""A page of the guide as what a reader does with it: programs to run, files to write, commands to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cnnspec

GUIDE = Path(cnnspec.__file__).parent / "guide"
NAMES = sorted(page.name.removesuffix(".md") for page in GUIDE.iterdir() if page.name.endswith(".md"))
_PART = re.compile(r"^```(\w*)\n(.*?)^```$|((?:^    \S[^\n]*\n)+)", re.DOTALL | re.MULTILINE)


class Part(NamedTuple):
    """A fenced block with its language, or an indented one without."""

    language: str
    text: str


def text(name: str) -> str:
    """The Markdown of a page."""
    return GUIDE.joinpath(f"{name}.md").read_text(encoding="utf-8")


def parts(page: str) -> Iterator[Part]:
    """All blocks of a page, in order."""
    for found in _PART.finditer(page):
        yield Part(found[1] or "", found[2] if found[3] is None else re.sub("^    ", "", found[3], flags=re.MULTILINE))


def commands(part: Part) -> Iterator[str]:
    """The lines of a block that call this program, without comments."""
    if part.language in ("", "sh", "console"):
        for line in part.text.splitlines():
            if re.match(r"(\$ )?(python -m )?cnnspec \w", line):
                yield re.sub(r"^(\$ )?(python -m )?|\s+#.*$", "", line)
