"""What the server says of a text, over the protocol, against `validate` on a file of the same content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cnnspec.cli.validate import check_file
from cnnspec.diagnostics.silence import unsilenced
from tests.spec.test_bad import FILES

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from lsprotocol.types import Diagnostic

    from tests.lsp.editor import Editor

GOOD = "cnnspec: 1\ninput: [1, 8, 8]\nlayers:\n  - flatten\n  - {type: dense, units: 10}\n"


def codes(found: list[Diagnostic]) -> list[tuple[str, int, int]]:
    """Code, line and column of findings, which count from 1."""
    return [(str(d.code), d.range.start.line + 1, d.range.start.character + 1) for d in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_findings_of_validate(editor: Editor, path: Path) -> None:
    if path.stem == "not-utf8":
        pytest.skip("an editor has decoded a text before it sends it")
    uri = path.as_uri()
    found = editor.open(uri, path.read_text(encoding="utf-8"), "cnnspec")
    editor.shut(uri)
    expected = unsilenced(check_file(str(path)), str(path))
    assert [(d.code, d.message.splitlines()[0]) for d in found] == [(d.code, d.message) for d in expected]
    here = [d.span.file == str(path) for d in expected]
    assert [place for place, own in zip(codes(found), here, strict=True) if own] == [
        (d.code, d.span.line, d.span.column) for d in expected if d.span.file == str(path)
    ]


def test_a_mistake_while_typing_and_its_cure(editor: Editor) -> None:
    uri = "file:///tmp/typed.yaml"
    assert editor.open(uri, GOOD) == []
    found = editor.change(uri, GOOD.replace("units", "unit"))
    assert codes(found) == [("unknown-key", 5, 19)]
    assert "help: did you mean units?" in found[0].message
    assert found[0].source == "cnnspec"
    assert codes(editor.change(uri, GOOD.replace("]\n", "\n"))) == [("yaml-syntax", 2, 8)]
    assert editor.change(uri, GOOD) == []
    editor.shut(uri)


def test_a_file_that_is_no_spec_is_left_alone_until_it_becomes_one(editor: Editor) -> None:
    uri, other = "file:///tmp/compose.yaml", "file:///tmp/spec.yaml"
    editor.client.text_document_did_open(
        types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "yaml", 1, "services: {web: {image: x}}\n"))
    )
    editor.versions[uri] = 1
    assert editor.open(other, "# a comment\n---\ncnnspec: 1\n") != []
    assert uri not in editor.published
    assert codes(editor.change(uri, "cnnspec: 2\ninput: [3]\nlayers: [relu]\n")) == [("unsupported-version", 1, 10)]
    editor.shut(uri)
    editor.shut(other)


def test_a_text_that_is_extended_counts_as_it_is_typed(editor: Editor, tmp_path: Path) -> None:
    base, heir = tmp_path / "base.yaml", tmp_path / "heir.yaml"
    base.write_text("cnnspec: 1\n")
    editor.open(base.as_uri(), GOOD)
    assert editor.open(heir.as_uri(), "cnnspec: 1\nextends: base.yaml\nname: heir\n") == []
    editor.type(base.as_uri(), GOOD.replace("units: 10", "units: 0"))
    found = editor.told(heir.as_uri())
    assert codes(found) == [("invalid-value", 2, 1)]
    (related,) = found[0].related_information or []
    assert (related.location.uri, related.location.range.start.line) == (base.as_uri(), 4)
    editor.shut(base.as_uri())
    assert codes(editor.told(heir.as_uri())) == [("missing-key", 1, 1), ("missing-key", 1, 1)]
    editor.shut(heir.as_uri())


FACES = 'cnnspec: 1\ninput: [2]\nlayers: [relu]\nvars: {"x": "\N{GRINNING FACE}\N{GRINNING FACE}", u: 1}\n'


def test_columns_are_counted_in_utf_16_by_default(editor: Editor) -> None:
    assert editor.capabilities.position_encoding == "utf-16"
    assert codes(editor.open("file:///tmp/faces.yaml", FACES))[-1] == ("unused-var", 4, 21)
    editor.shut("file:///tmp/faces.yaml")


def test_columns_are_counted_as_the_editor_does() -> None:
    pytest.importorskip("pytest_lsp", reason="pytest-lsp is not installed: pip install 'cnnspec[test]'")
    from tests.lsp.editor import Editor

    editor = Editor(encodings=[types.PositionEncodingKind.Utf8, types.PositionEncodingKind.Utf16])
    assert editor.capabilities.position_encoding == "utf-8"
    assert codes(editor.open("file:///tmp/faces.yaml", FACES))[-1] == ("unused-var", 4, 25)
    assert editor.close() == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_places_and_positions_are_each_others_inverse(encoding: str) -> None:
    from cnnspec.lsp.text import Text

    kind = types.PositionEncodingKind(encoding)
    text = Text("plain\r\n\u00e9\u4e2d\U0001f600x\r\n", kind)
    for line, content in enumerate(text.text.split("\r\n"), 1):
        for column in range(1, len(content) + 2):
            units = len(content[: column - 1].encode(encoding.replace("16", "16-le").replace("32", "32-le")))
            expected = units // {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
            position = text.position(line, column)
            assert position == types.Position(line - 1, expected)
            assert text.place(position) == (line, column)
    assert text.place(types.Position(9, 9)) == (3, 1)
    assert text.place(types.Position(0, 99)) == (1, 6)


def test_without_the_extra_one_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from cnnspec.cli import main

    for name in [name for name in sys.modules if name.startswith("cnnspec.lsp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygls", None)
    monkeypatch.setitem(sys.modules, "lsprotocol", None)
    assert main(["lsp"]) == 4
    assert capsys.readouterr().err == (
        "cnnspec: error: the language server needs pygls\nhelp: python -m pip install 'cnnspec[lsp]'\n"
    )
