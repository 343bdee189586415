"""Definitions, references and renames, at places that are marked in the texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from lsprotocol.types import Location, Position

    from tests.lsp.editor import Editor

TEXT = """cnnspec: 1
input: [3, 8, 8]
vars: {wide: 4, deep: "${wide * 2}"}
blocks:
  unit:
    params: {filters: required, size: 3}
    layers:
      - {id: inner, type: conv2d, filters: $filters, kernel_size: $size, padding: same}
      - {type: add, from: [inner, input]}
layers:
  - {type: conv2d, filters: $wide, kernel_size: 1}
  - {id: first, use: unit, with: {filters: "${wide}"}}
  - {type: add, from: [first.inner, first]}
  - type: residual
    body:
      - {id: deeper, type: conv2d, filters: $wide, kernel_size: 1}
      - {type: add, from: [deeper, first]}
  - {use: squeeze_excite}
  - flatten
  - {type: dense, units: $deep}
"""


def place(line: int, word: str, text: str = TEXT) -> Position:
    """The second letter of a word on a line, from 1."""
    found: Position = types.Position(line - 1, text.splitlines()[line - 1].index(word) + 1)
    return found


def spots(locations: list[Location]) -> list[tuple[int, str]]:
    """The line, from 1, and the text at each location of the text."""
    lines = TEXT.splitlines()
    ranges = [location.range for location in locations]
    return [(r.start.line + 1, lines[r.start.line][r.start.character : r.end.character]) for r in ranges]


@pytest.mark.parametrize(
    ("line", "word", "expected"),
    [
        (9, "inner", (8, "inner")),
        (13, "first.inner", (12, "first")),
        (13, "inner", (8, "inner")),
        (17, "first", (12, "first")),
        (17, "deeper", (16, "deeper")),
        (12, "unit", (5, "unit")),
        (12, "filters", (6, "filters")),
        (12, "wide", (3, "wide")),
        (8, "$filters", (6, "filters")),
        (20, "$deep", (3, "deep")),
        (3, "wide * 2", (3, "wide")),
    ],
)
def test_definitions(editor: Editor, tmp_path: Path, line: int, word: str, expected: tuple[int, str]) -> None:
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, TEXT)
    at = place(line, word)
    found = editor.ask_of(types.TEXT_DOCUMENT_DEFINITION, uri, line, at.character + 1)
    editor.shut(uri)
    assert spots([found]) == [expected]
    assert found.uri == uri


def test_a_shipped_block_is_found_in_its_file_and_not_renamed(editor: Editor, tmp_path: Path) -> None:
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, TEXT)
    at = place(18, "squeeze_excite")
    found = editor.ask_of(types.TEXT_DOCUMENT_DEFINITION, uri, 18, at.character + 1)
    assert found.uri.endswith("blocks.yaml")
    params = types.PrepareRenameParams(types.TextDocumentIdentifier(uri), at)
    assert editor.ask(types.TEXT_DOCUMENT_PREPARE_RENAME, params) is None
    editor.shut(uri)


def test_references(editor: Editor, tmp_path: Path) -> None:
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, TEXT)
    identifier = types.TextDocumentIdentifier(uri)
    params = types.ReferenceParams(types.ReferenceContext(True), identifier, place(3, "wide"))
    lines = [line for line, _ in spots(editor.ask(types.TEXT_DOCUMENT_REFERENCES, params))]
    assert lines == [3, 3, 11, 12, 16]
    params = types.ReferenceParams(types.ReferenceContext(False), identifier, place(12, "first"))
    assert [line for line, _ in spots(editor.ask(types.TEXT_DOCUMENT_REFERENCES, params))] == [13, 13, 17]
    editor.shut(uri)


@pytest.mark.parametrize(
    ("line", "word", "name"),
    [(3, "wide", "width"), (8, "inner", "core"), (12, "first", "stem"), (5, "unit", "cell"), (6, "filters", "maps")],
)
def test_a_renamed_spec_means_the_same(editor: Editor, tmp_path: Path, line: int, word: str, name: str) -> None:
    from cnnspec.graph import build
    from cnnspec.spec import loads
    from tests.lsp.test_actions import applied

    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, TEXT)
    params = types.RenameParams(types.TextDocumentIdentifier(uri), place(line, word), name)
    edit = editor.ask(types.TEXT_DOCUMENT_RENAME, params)
    editor.shut(uri)
    text = applied(TEXT, edit.changes[uri])
    assert name in text
    before, after = build(loads(TEXT)), build(loads(text))
    assert [node.shape for node in before.nodes] == [node.shape for node in after.nodes]
    assert before.parameter_count == after.parameter_count


@pytest.mark.parametrize(("line", "word"), [(3, "wide"), (5, "unit"), (7, "first"), (5, "size"), (5, "inner")])
def test_a_rename_reaches_the_paths_of_a_sweep(editor: Editor, tmp_path: Path, line: int, word: str) -> None:
    from cnnspec.spec import loads
    from tests.lsp.test_actions import applied

    text = """cnnspec: 1
input: [3, 8, 8]
vars: {wide: 4}
blocks:
  unit: {params: {size: 1}, layers: [{id: inner, type: conv2d, filters: $wide, kernel_size: $size}]}
layers:
  - {id: first, type: conv2d, filters: 4, kernel_size: 1}
  - {use: unit, with: {size: 1}}
  - {type: add, from: [unit_1, unit_1.inner]}
sweep:
  values:
    vars.wide: [4, 8]
    "layers.first.filters": [2]
    layers.unit_1.with.size: [1, 2]
    blocks[unit].params.size: [1, 3]
    blocks.unit.layers[inner].filters: [2]
"""
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, text)
    params = types.RenameParams(types.TextDocumentIdentifier(uri), place(line, word, text), "other")
    after = applied(text, editor.ask(types.TEXT_DOCUMENT_RENAME, params).changes[uri])
    editor.shut(uri)
    assert after == re.sub(rf"\b{word}(_1)?\b", r"other\1", text)
    assert len(loads(after).variants) == len(loads(text).variants)


def test_a_rename_reaches_the_layers_that_losses_read(editor: Editor, tmp_path: Path) -> None:
    from tests.lsp.test_actions import applied

    text = """cnnspec: 1
input: [1, 8, 8]
layers:
  - flatten
  - {id: means, type: dense, units: 2}
  - {id: spread, type: dense, units: 2, from: flatten_1}
train:
  epochs: 1
  losses: {near: {layer: [means, spread], loss: kl_divergence}, far: {layer: means, loss: mean_output}}
"""
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, text)
    params = types.RenameParams(types.TextDocumentIdentifier(uri), place(5, "means", text), "centre")
    after = applied(text, editor.ask(types.TEXT_DOCUMENT_RENAME, params).changes[uri])
    editor.shut(uri)
    assert after == text.replace("means", "centre")


def test_a_rename_reaches_the_heirs_and_what_is_extended(editor: Editor, tmp_path: Path) -> None:
    base, heir = tmp_path / "base.yaml", tmp_path / "heir.yaml"
    base.write_text(TEXT)
    heir.write_text("cnnspec: 1\nextends: base.yaml\nexpect: {output: [8]}\nlayers:\n  - flatten\n"
                    "  - {type: dense, units: $wide}\n")  # fmt: skip
    editor.open(base.as_uri(), TEXT)
    params = types.RenameParams(types.TextDocumentIdentifier(base.as_uri()), place(3, "wide"), "width")
    changes = editor.ask(types.TEXT_DOCUMENT_RENAME, params).changes
    assert {uri: len(edits) for uri, edits in changes.items()} == {base.as_uri(): 5, heir.as_uri(): 1}
    editor.open(heir.as_uri(), heir.read_text())
    found = editor.ask_of(types.TEXT_DOCUMENT_DEFINITION, heir.as_uri(), 2, len("extends: ba") + 1)
    assert found.uri == base.as_uri()
    found = editor.ask_of(types.TEXT_DOCUMENT_DEFINITION, heir.as_uri(), 6, len("  - {type: dense, units: $w") + 1)
    assert (found.uri, found.range.start.line) == (base.as_uri(), 2)
    editor.shut(heir.as_uri())
    editor.shut(base.as_uri())


@pytest.mark.parametrize("opened", ["base.yaml", "deep/grand.yaml"])
@pytest.mark.parametrize("renamed", ["wide", "unit", "size"])
def test_a_rename_reaches_what_replaces_a_definition_and_what_it_replaces(
    editor: Editor, tmp_path: Path, opened: str, renamed: str
) -> None:
    from cnnspec.graph import build
    from cnnspec.spec import load
    from tests.lsp.test_actions import applied

    own = "blocks: {unit: {params: {size: 5}}}\nvars: {wide: 6}\n"
    files = {
        "base.yaml": TEXT,
        "heir.yaml": "extends: base.yaml\n" + own,
        "deep/grand.yaml": "extends: ../heir.yaml\n" + own.replace("6", "8"),
        "deep/plain.yaml": "extends: ../base.yaml\nname: plain\n",
        "sister.yaml": "extends: base.yaml\nlayers: [{type: conv2d, filters: $wide, kernel_size: 1}, "
        "{use: unit, with: {filters: $wide, size: 1}}]\n",
    }
    (tmp_path / "deep").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".git").mkdir()
    before = [build(load(tmp_path / name)).parameter_count for name in files]
    uri = (tmp_path / opened).as_uri()
    editor.open(uri, files[opened])
    line = next(n for n, text in enumerate(files[opened].splitlines(), 1) if f"{renamed}:" in text)
    at = place(line, f"{renamed}:", files[opened])
    edits = editor.ask(types.TEXT_DOCUMENT_RENAME, types.RenameParams(types.TextDocumentIdentifier(uri), at, "other"))
    editor.shut(uri)
    assert set(edits.changes) == {(tmp_path / name).as_uri() for name in files if name != "deep/plain.yaml"}
    for name, text in files.items():
        (tmp_path / name).write_text(applied(text, edits.changes.get((tmp_path / name).as_uri(), [])))
        assert not re.search(rf"\b{renamed}\b", (tmp_path / name).read_text())
    assert [build(load(tmp_path / name)).parameter_count for name in files] == before


def test_what_can_be_no_name_is_refused(editor: Editor, tmp_path: Path) -> None:
    uri = (tmp_path / "spec.yaml").as_uri()
    editor.open(uri, TEXT)
    params = types.RenameParams(types.TextDocumentIdentifier(uri), place(3, "wide"), "no-name")
    with pytest.raises(Exception, match="expected a letter or underscore, then letters"):
        editor.ask(types.TEXT_DOCUMENT_RENAME, params)
    editor.shut(uri)
