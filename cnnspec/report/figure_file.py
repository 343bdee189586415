"""Writes figures of matplotlib into files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from cnnspec.files import rewrite


def save(figure: Any, path: Path) -> None:
    """Write a figure as the kind of picture that the file's name ends in, completely or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix(".") or None)
    rewrite(path, content.getvalue())
