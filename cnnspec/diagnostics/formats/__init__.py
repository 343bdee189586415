"""How findings are printed: one file a format, all with one signature; only the one that is asked for is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from cnnspec.diagnostics.record import Diagnostic

FORMATS = {  # where each one is
    "full": "text",
    "concise": "text",
    "json": "json",
    "jsonl": "json",
    "github": "github",
    "gitlab": "gitlab",
    "junit": "junit",
    "sarif": "sarif",
}


def formatted(name: str, found: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Findings, and the names of all files that were checked, as one text."""
    module = importlib.import_module(f"{__name__}.{FORMATS[name]}")
    return str(getattr(module, name)(found, files))
