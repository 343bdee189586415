"""JSON for programs: one list, or one object on each line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from typing import Any

from cnnspec.diagnostics.record import Diagnostic


def json(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return one object with the checked files and all findings."""
    return dumps({"files": list(files), "diagnostics": [_record(d) for d in diagnostics]}, indent=2)


def jsonl(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return one object for each finding, each on its own line."""
    return "\n".join(dumps(_record(diagnostic)) for diagnostic in diagnostics)


def _record(diagnostic: Diagnostic) -> dict[str, Any]:
    record = asdict(diagnostic)
    return {"code": record.pop("code"), **record.pop("span"), **record}
