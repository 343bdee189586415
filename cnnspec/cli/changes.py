"""Shows changes to text files as a diff, or writes them."""

from __future__ import annotations

import difflib
from codecs import BOM_UTF8
from pathlib import Path

from cnnspec.diagnostics import RunError
from cnnspec.files import rewrite


def difference(before: str, after: str, file: str, how: str) -> str:
    """Return the changes in a file as a unified diff; `how` says what was done to the file."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), file, f"{file} ({how})")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def replace_text(path: Path, text: str) -> None:
    """Write a text completely or not at all, as `rewrite` does, and keep the file's byte order mark."""
    try:
        with path.open("rb") as file:
            mark = BOM_UTF8 if file.read(3) == BOM_UTF8 else b""
        rewrite(path, mark + text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
