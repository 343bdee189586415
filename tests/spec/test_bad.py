"""The corpus of bad specs: every file's faulty lines say in a comment what is reported there, and at which column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnspec.check import checked
from cnnspec.cli import main
from cnnspec.diagnostics import SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.source import source_lines
from cnnspec.lints import lint
from cnnspec.spec import load

FOLDER = Path(__file__).parent / "bad"
FILES = sorted(FOLDER.glob("*.yaml"))
MARK = re.compile(r"# (error|warning): ([a-z0-9-]+ at \d+(?:, [a-z0-9-]+ at \d+)*)$")
TEXTS = FOLDER / "texts.txt"
IN_NO_FILE = {"unreadable-file"}  # what is in a file cannot bring it about

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


def said(path: Path) -> str:
    """What a person reads of a file's findings, without the source lines."""
    try:
        spec = load(path)
        found = [*spec.warnings, *lint(spec, checked(spec))]
    except SpecError as error:
        found = list(error.diagnostics)
    lines = [f"{path.name}"]
    for diagnostic in sorted(found, key=lambda diagnostic: diagnostic.span):
        lines.append(f"  {diagnostic.message}")
        lines += [f"    note: {note}" for note in diagnostic.notes]
        lines += [f"    help: {diagnostic.help}"] if diagnostic.help else []
    return "\n".join(lines).replace(str(FOLDER), "BAD")


def test_texts_are_what_they_were() -> None:
    """Every message, note and help of the corpus; `python -m tests.spec.test_bad` writes the file anew, to be read."""
    assert [said(path) for path in FILES] == TEXTS.read_text(encoding="utf-8").rstrip("\n").split("\n\n")


def test_every_code_has_a_case() -> None:
    assert {code for path in FILES for *_, code in marked(path)} == CATALOGUE.keys() - IN_NO_FILE


def test_the_corpus_is_large() -> None:
    assert len(FILES) >= 120


def test_the_code_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(FOLDER.parents[2] / "specs" / "lenet.yaml"), "--set", "train.epoch=5"]) == 1
    shown = capsys.readouterr().out
    assert "error[unknown-key]: unknown key of train 'epoch'" in shown or "error[unknown-path]" in shown
    assert main(["summary", str(FOLDER.parents[2] / "specs" / "lenet.yaml"), "--set", "layers.logit.units=5"]) == 1
    shown = capsys.readouterr().out
    assert "error[unknown-path]: --set layers.logit.units=5: no 'logit' in layers" in shown
    assert "did you mean logits?" in shown


if __name__ == "__main__":
    TEXTS.write_text("\n\n".join(said(path) for path in FILES) + "\n", encoding="utf-8")
