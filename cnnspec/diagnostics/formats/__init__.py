"""How findings are printed: one file a format, all with one signature."""

from collections.abc import Callable, Sequence

from cnnspec.diagnostics.formats.github import github
from cnnspec.diagnostics.formats.gitlab import gitlab
from cnnspec.diagnostics.formats.json import json, jsonl
from cnnspec.diagnostics.formats.junit import junit
from cnnspec.diagnostics.formats.sarif import sarif
from cnnspec.diagnostics.formats.text import concise, full
from cnnspec.diagnostics.record import Diagnostic

Format = Callable[[Sequence[Diagnostic], Sequence[str]], str]  # findings and all checked files to a text

FORMATS: dict[str, Format] = {
    "full": full,
    "concise": concise,
    "json": json,
    "jsonl": jsonl,
    "github": github,
    "gitlab": gitlab,
    "junit": junit,
    "sarif": sarif,
}

__all__ = ["FORMATS", "Format"]
