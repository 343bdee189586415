"""SARIF 2.1.0, the OASIS standard that code hosts read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnspec import __version__
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.record import Diagnostic, Fix, Span
from cnnspec.diagnostics.source import from_root

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def sarif(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return one run, with a rule for every code that was found."""
    codes = sorted({diagnostic.code for diagnostic in diagnostics})
    run = {
        "tool": {"driver": {"name": "cnnspec", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "artifacts": [{"location": {"uri": _uri(file)}} for file in files],
        "results": [_result(diagnostic, codes.index(diagnostic.code)) for diagnostic in diagnostics],
        "columnKind": "unicodeCodePoints",
    }
    return dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    entry = CATALOGUE[code]
    return {
        "id": code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.why},
        "help": {"text": f"{entry.why}\n\nWrong:\n\n{entry.bad}\nRight:\n\n{entry.good}"},
        "defaultConfiguration": {"level": entry.severity},
    }


def _result(diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    message = diagnostic.message + (f"\nhelp: {diagnostic.help}" if diagnostic.help else "")
    related = [{**_location(place.span), "message": {"text": place.message}} for place in diagnostic.related]
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": message},
        "locations": [_location(diagnostic.span)],
        **({"relatedLocations": related} if related else {}),
        **({"fixes": [_fix(diagnostic.fix)]} if diagnostic.fix else {}),
    }


def _fix(fix: Fix) -> dict[str, Any]:
    place = _location(fix.span)["physicalLocation"]
    replacement = {"deletedRegion": place["region"], "insertedContent": {"text": fix.replacement}}
    change = {"artifactLocation": place["artifactLocation"], "replacements": [replacement]}
    return {"description": {"text": fix.title}, "artifactChanges": [change]}


def _location(span: Span) -> dict[str, Any]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(span.file)}, "region": region}}


def _uri(file: str) -> str:
    near = from_root(file)
    return Path(near).as_uri() if Path(near).is_absolute() else quote(os.fsencode(near))
