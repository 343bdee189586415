"""The lines of files that were read, for excerpts and for comments that silence findings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from cnnspec.files import read_bounded

LINE_BREAK = re.compile(r"\r\n|\r|\n")
MOST_BYTES = 1 << 20  # bytes of a file from which excerpts are shown
GIVEN: dict[str, str] = {}  # texts used in place of files, by the name in spans


def lines_and_breaks(text: str) -> list[str]:
    """Return each line of a text followed by its line break: line i, from 1, is element 2 * (i - 1)."""
    return re.split(f"({LINE_BREAK.pattern})", text)


def given_text(file: str) -> str | None:
    """Return the text given in place of a file, by this name or the absolute one; None if the file itself is read."""
    return GIVEN.get(file) if file in GIVEN else GIVEN.get(os.path.abspath(file))


def source_lines(file: str) -> list[str]:
    """Return the lines of a file or of a given text; empty if there is neither."""
    text = given_text(file)
    if text is not None:
        return LINE_BREAK.split(text)
    try:
        state = os.stat(file)
        return _lines(file, state.st_mtime_ns, state.st_size)
    except OSError:
        return []


def repository_of(path: str | Path) -> Path | None:
    """Return the nearest folder with `.git`, from a path upwards; None if there is none."""
    absolute = Path(path).absolute()
    return next((folder for folder in (absolute, *absolute.parents) if (folder / ".git").exists()), None)


def from_root(file: str) -> str:
    """Return a path as code hosts know it: relative to the root of the current repository, or to the current folder."""
    root = repository_of(Path.cwd()) or Path.cwd()
    return Path(os.path.relpath(file, root)).as_posix() if Path(file).absolute().is_relative_to(root) else file


@contextmanager
def given(name: str, text: str) -> Iterator[None]:
    """Use a text in place of the file of that name."""
    before = GIVEN.get(name)
    GIVEN[name] = text
    try:
        yield
    finally:
        if before is None:
            del GIVEN[name]
        else:
            GIVEN[name] = before


@lru_cache(maxsize=4)
def _lines(file: str, modified: int, size: int) -> list[str]:
    """Return the lines of a file, cached while the file is unchanged: one with a thousand findings is read once."""
    return LINE_BREAK.split(read_bounded(file, MOST_BYTES).decode("utf-8-sig", errors="replace"))
