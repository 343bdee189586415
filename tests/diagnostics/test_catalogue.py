"""Every code's page is true: its bad file has that finding and no other, its good file has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnspec.cli.validate import check_file
from cnnspec.diagnostics import SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.silence import unsilenced
from cnnspec.spec import loads

PACKAGE = Path(__file__).parents[2] / "cnnspec"
IN_FILES = [code for code in CATALOGUE if code not in ("unknown-path", "unreadable-file")]


def codes(text: str, folder: Path) -> list[tuple[str, str]]:
    path = folder / "spec.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return [(diagnostic.code, diagnostic.severity) for diagnostic in unsilenced(check_file(str(path)), str(path))]


@pytest.mark.parametrize("code", IN_FILES)
def test_the_bad_file_has_it(code: str, tmp_path: Path) -> None:
    assert codes(CATALOGUE[code].bad, tmp_path) == [(code, CATALOGUE[code].severity)]


@pytest.mark.parametrize("code", IN_FILES)
def test_the_good_file_is_clean(code: str, tmp_path: Path) -> None:
    assert codes(CATALOGUE[code].good, tmp_path) == []


def test_unknown_path() -> None:
    with pytest.raises(SpecError, match=r"unknown-path\]: --set a\.b=1: no 'a' in the spec"):
        loads(CATALOGUE["unknown-key"].good, overrides=["a.b=1"])


def test_every_code_that_is_reported_is_in_the_catalogue() -> None:
    """Codes are the first argument of what makes a Diagnostic; all of them are kebab-case texts."""
    calls = re.compile(
        r"(?:\.error|\.warn|\.unknown|_failure|_?warning|Diagnostic|code=|_?at\(node,|_?at\(graph\.output,)"
        r"\(?\s*\"([a-z0-9]+(?:-[a-z0-9]+)*)\""
    )
    reported = {
        code
        for folder in ("spec", "graph", "plan")
        for path in (PACKAGE / folder).glob("*.py")
        for code in calls.findall(path.read_text())
    }
    assert len(reported) > 20
    assert reported <= set(CATALOGUE)
