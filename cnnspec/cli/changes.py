"""Shows changes to text files as a diff, or writes them."""

from __future__ import annotations

import difflib
import os
from codecs import BOM_UTF8
from pathlib import Path

from cnnspec.diagnostics import RunError
from cnnspec.files import real_path, replacing


def difference(before: str, after: str, file: str, how: str) -> str:
    """Return the changes in a file as a unified diff; `how` says what was done to the file."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), file, f"{file} ({how})")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def replace_text(path: Path, text: str) -> None:
    """Write a file completely or not at all, through a link, and keep its mode and its byte order mark.

    A file with several names (hard links) is written in place, so that the names stay one file.
    """
    target = real_path(path)
    try:
        with target.open("rb") as file:
            mark = BOM_UTF8 if file.read(3) == BOM_UTF8 else b""
        if target.stat().st_nlink > 1:
            target.write_bytes(mark + text.encode())
            return
        mode = target.stat().st_mode
        with replacing(target) as file:
            file.write(mark + text.encode())
            os.chmod(file.name, mode)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
