"""Output formats of findings: one module each, all with one signature, loaded when it is requested."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from cnnspec.diagnostics.record import Diagnostic

FORMATS = {  # the module of each format
    "full": "text",
    "concise": "text",
    "json": "json",
    "jsonl": "json",
    "github": "github",
    "gitlab": "gitlab",
    "junit": "junit",
    "sarif": "sarif",
}


def formatted(name: str, diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return findings as one text in a format; `files` are the names of all files that were checked."""
    module = importlib.import_module(f"{__name__}.{FORMATS[name]}")
    return str(getattr(module, name)(diagnostics, files))
