"""GitLab's code quality report, a subset of Code Climate's."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from json import dumps
from typing import Any

from cnnspec.diagnostics.record import Diagnostic, printable
from cnnspec.diagnostics.source import from_root

SEVERITIES = {"error": "major", "warning": "minor"}


def gitlab(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return a JSON list of issues, each with a fingerprint that stays the same when lines move."""
    seen: dict[str, int] = {}
    return dumps([_issue(diagnostic, seen) for diagnostic in diagnostics], indent=2)


def _issue(diagnostic: Diagnostic, seen: dict[str, int]) -> dict[str, Any]:
    identity = f"{from_root(diagnostic.span.file)}\0{diagnostic.code}\0{diagnostic.message}"
    seen[identity] = seen.get(identity, 0) + 1
    return {
        "description": diagnostic.message,
        "check_name": diagnostic.code,
        "fingerprint": sha256(f"{identity}\0{seen[identity]}".encode(errors="surrogateescape")).hexdigest(),
        "severity": SEVERITIES[diagnostic.severity],
        "location": {"path": printable(from_root(diagnostic.span.file)), "lines": {"begin": diagnostic.span.line}},
    }
