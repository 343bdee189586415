"""Finds the YAML files below a folder that are specs, by their top-level keys."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

SUFFIXES = (".yaml", ".yml")
FIRST_BYTES = 1 << 16  # bytes of a file in which a spec's top-level key has to be
FOREIGN_FOLDERS = {"node_modules", "__pycache__", "site-packages"}  # they hold many files of other projects
TOP_LEVEL_KEY = re.compile(rb"^(?:\xef\xbb\xbf)?\{?[ ]?[\"']?([A-Za-z_]+)[\"']?[ ]*:", re.MULTILINE)
EXTENDS = re.compile(rb"^extends[ ]*:[ ]*[\"']?[^\s\"'#]+\.ya?ml\b", re.MULTILINE)


def specs_below(folder: str, excluded: Callable[[Path], bool]) -> Iterator[tuple[str, bool]]:
    """Yield the YAML files below a folder that are not hidden or excluded, sorted, and whether each is a spec."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_shown(name) and not excluded(Path(where, name)))
        for name in sorted(files):
            path = Path(where, name)
            if name.lower().endswith(SUFFIXES) and _is_shown(name) and not excluded(path):
                yield str(path), is_spec(path)


def is_spec(path: Path) -> bool:
    """Tell whether a file has the top-level key `cnnspec`, or, if that was forgotten, `layers` and `input` or `inputs`.

    A file that extends another YAML file is one too: the key may be in that. One that cannot be read counts as a spec,
    so that it is reported.
    """
    try:
        if not path.is_file():
            return path.is_symlink()
        with path.open("rb") as file:
            return says_so(file.read(FIRST_BYTES))
    except OSError:
        return True


def says_so(content: bytes) -> bool:
    """Tell whether the start of a file has the top-level keys of a spec."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # no spec may be so, which has to be told
        content = content.decode("utf-16", "replace").encode()
    keys = {match[1] for match in TOP_LEVEL_KEY.finditer(content)}
    forgotten = b"layers" in keys and bool(keys & {b"input", b"inputs"})
    return b"cnnspec" in keys or forgotten or EXTENDS.search(content) is not None


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in FOREIGN_FOLDERS
