"""The lines of what was read, for excerpts and for the comments that silence a finding."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from cnnspec.files import read_bounded

LINE_BREAK = re.compile(r"\r\n|\r|\n")
MOST_BYTES = 1 << 20  # of a file that is shown
GIVEN: dict[str, str] = {}  # texts that are no files, such as standard input, by the name that spans give them


def lines_and_breaks(text: str) -> list[str]:
    """Each line of a text followed by what ends it: line i, counted from 1, is element 2 * (i - 1)."""
    return re.split(f"({LINE_BREAK.pattern})", text)


def given_text(file: str) -> str | None:
    """The text that stands for a file, under this name or the absolute one; None where the file itself is read."""
    return GIVEN.get(file) if file in GIVEN else GIVEN.get(os.path.abspath(file))


def source_lines(file: str) -> list[str]:
    """The lines of a file or of a given text; none where there is neither."""
    text = given_text(file)
    if text is not None:
        return LINE_BREAK.split(text)
    try:
        state = os.stat(file)
        return _lines(file, state.st_mtime_ns, state.st_size)
    except OSError:
        return []


def repository_of(path: str | Path) -> Path | None:
    """The nearest folder that holds `.git`, from a path upwards, or None where there is none."""
    absolute = Path(path).absolute()
    return next((folder for folder in (absolute, *absolute.parents) if (folder / ".git").exists()), None)


def from_root(file: str) -> str:
    """A path as code hosts know it: from the root of the repository where the program runs, or from where it runs."""
    root = repository_of(Path.cwd()) or Path.cwd()
    return Path(os.path.relpath(file, root)).as_posix() if Path(file).absolute().is_relative_to(root) else file


@contextmanager
def given(name: str, text: str) -> Iterator[None]:
    """Let a text stand for the file of that name."""
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
    """Kept while the file stays as it is: one with a thousand findings is read once."""
    return LINE_BREAK.split(read_bounded(file, MOST_BYTES).decode("utf-8-sig", errors="replace"))
