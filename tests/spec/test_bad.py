"""The corpus of bad specs: every file's faulty lines say in a comment what is reported there, and at which column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.formats.text import source_lines

FOLDER = Path(__file__).parent / "bad"
FILES = sorted(FOLDER.glob("*.yaml"))
MARK = re.compile(r"# (error|warning): ([a-z0-9-]+ at \d+(?:, [a-z0-9-]+ at \d+)*)$")
ON_THE_COMMAND_LINE = {"unknown-path"}  # no file can have it

Finding = tuple[int, int, str, str]  # line, column, severity, code


def marked(path: Path) -> list[Finding]:
    """What the comments of a file announce."""
    found = []
    for number, line in enumerate(source_lines(str(path)), 1):
        match = MARK.search(line)
        for code, _, column in (part.partition(" at ") for part in match[2].split(", ")) if match else ():
            found.append((number, int(column), match[1] if match else "", code))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_findings_are_where_the_file_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = marked(path)
    assert expected
    status = main(["validate", str(path), "--format", "concise"])
    *lines, _ = capsys.readouterr().out.splitlines()
    heads = [re.fullmatch(r".*?\.yaml:(\d+):(\d+): (error|warning)\[([a-z0-9-]+)\]: .+", line) for line in lines]
    assert [(int(h[1]), int(h[2]), h[3], h[4]) for h in heads if h] == expected, "\n".join(lines)
    assert len(heads) == len(expected)
    assert status == int(any(severity == "error" for _, _, severity, _ in expected))


def test_every_code_has_a_case() -> None:
    assert {code for path in FILES for *_, code in marked(path)} == CATALOGUE.keys() - ON_THE_COMMAND_LINE


def test_the_corpus_is_large() -> None:
    assert len(FILES) >= 120
