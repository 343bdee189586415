"""Files that a verb would write in the place of what it reads: refused before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cnnspec.diagnostics import RunError


def refuse_overwriting(output: Path | None, read: Iterable[str | Path]) -> None:
    """Raise RunError if an output is a file that is read, under this or another name of it."""
    for path in read:
        with suppress(OSError):
            if output is not None and os.path.samefile(output, path):
                raise RunError(f"{output} is read here, and would be written over", "name another file")
