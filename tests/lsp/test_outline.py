"""Symbols, folding, selections, lenses and tokens, over the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lsp.test_navigation import TEXT, place

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from tests.lsp.editor import Editor

URI = "file:///tmp/outline.yaml"
IDENTIFIER = types.TextDocumentIdentifier(URI)


@pytest.fixture
def opened(editor: Editor) -> Editor:
    """The editor with the text in it."""
    editor.open(URI, TEXT + "expect: {params: {max: 20K}, output: [8]}\n")
    return editor


def test_symbols(opened: Editor) -> None:
    found = opened.ask(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL, types.DocumentSymbolParams(IDENTIFIER))
    sections = {symbol.name: [inner.name for inner in symbol.children or []] for symbol in found}
    layers = ["conv2d", "first", "add", "residual", "squeeze_excite", "flatten", "dense"]
    assert sections == {
        **{key: [] for key in ("cnnspec", "input", "expect")},
        "vars": ["wide", "deep"],
        "blocks": ["unit"],
        "layers": layers,
    }
    residual = next(symbol for symbol in found if symbol.name == "layers").children[3]
    assert [inner.name for inner in residual.children] == ["deeper", "add"]
    assert residual.detail.startswith("residual 4x8x8")
    opened.shut(URI)


def test_folds_and_selections(opened: Editor) -> None:
    found = opened.ask(types.TEXT_DOCUMENT_FOLDING_RANGE, types.FoldingRangeParams(IDENTIFIER))
    assert (9, 19) in {(fold.start_line, fold.end_line) for fold in found}
    position = place(16, "deeper")
    (chain,) = opened.ask(types.TEXT_DOCUMENT_SELECTION_RANGE, types.SelectionRangeParams(IDENTIFIER, [position]))
    lines = []
    while chain is not None:
        lines.append((chain.range.start.line + 1, chain.range.end.line + 1))
        chain = chain.parent
    assert lines[:2] == [(16, 16), (16, 16)]
    assert lines[2] == (16, 17)
    assert lines[-1] == (1, 22)
    opened.shut(URI)


def test_lenses(opened: Editor) -> None:
    found = opened.ask(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensParams(IDENTIFIER))
    titles = {lens.range.start.line + 1: lens.command.title for lens in found}
    assert titles[10].endswith("MACs an image, output 8")
    assert titles[21].endswith("output 8 as expected")
    opened.shut(URI)


def test_the_forecast_is_that_of_the_last_run(editor: Editor, tmp_path: Path) -> None:
    uri = (tmp_path / "spec.yaml").as_uri()
    run = tmp_path / "runs" / "digits-run"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 9.0}\n{"epoch": 2, "seconds": 11.0}\n')
    editor.open(uri, "cnnspec: 1\nname: digits-run\ninput: [1, 8, 8]\nlayers: [flatten, {type: dense, units: 10}]\n"
                     "data: {source: digits}\ntrain: {epochs: 30}\n")  # fmt: skip
    found = editor.ask(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensParams(types.TextDocumentIdentifier(uri)))
    assert found[-1].command.title == "about 5.0 min: 30 epochs of 10.0 s, as in the last run"
    editor.shut(uri)


def test_tokens_are_the_names(opened: Editor) -> None:
    data = opened.ask(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, types.SemanticTokensParams(IDENTIFIER)).data
    lines, line, character, words = TEXT.splitlines(), 0, 0, []
    for start in range(0, len(data), 5):
        down, right, length, kind, defined = data[start : start + 5]
        line, character = line + down, right if down else character + right
        words.append((line + 1, lines[line][character : character + length], kind, defined))
    assert words[:3] == [(3, "wide", 2, 1), (3, "deep", 2, 1), (3, "wide", 2, 0)]
    assert (13, "first", 0, 0) in words
    assert (12, "unit", 1, 0) in words
    assert (8, "filters", 3, 0) in words
    opened.shut(URI)
