"""Inlay hints and hover, against figures that are counted by hand or published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from tests.lsp.editor import Editor

SPECS = Path(__file__).parents[2] / "specs"
URI = "file:///tmp/hints.yaml"
TEXT = """cnnspec: 1
input: [1, 8, 8]
vars: {wide: 4}
blocks:
  unit:
    params: {filters: required}
    layers:
      - {type: conv2d, filters: $filters, kernel_size: 3, padding: same}
      - relu
layers:
  - {use: unit, with: {filters: $wide}}   # a comment
  - {use: unit, with: {filters: 8}, repeat: 2}
  - type: conv2d
    filters: 2
    kernel_size: 8
    activation: relu
  - flatten
  - {id: logits, type: dense, units: 10}
"""


def shown(editor: Editor, uri: str) -> dict[int, str]:
    """The hints of a text by their lines, from 1."""
    everything = types.Range(types.Position(0, 0), types.Position(10_000, 0))
    params = types.InlayHintParams(types.TextDocumentIdentifier(uri), everything)
    found = editor.ask(types.TEXT_DOCUMENT_INLAY_HINT, params)
    return {hint.position.line + 1: hint.label for hint in found}


def test_shape_parameters_and_cost_stand_behind_each_layer(editor: Editor) -> None:
    assert editor.open(URI, TEXT) == []
    conv = 4 * (9 + 1)  # one channel in
    more = 8 * (9 * 4 + 1) + 8 * (9 * 8 + 1)
    assert shown(editor, URI) == {
        8: f"→ 4x8x8, {conv} params, {64 * 36 / 1000:.3g}k MACs, +2 more",
        9: "→ 4x8x8, +2 more",
        11: f"→ 4x8x8, {conv} params, 2.3k MACs",
        12: f"→ 8x8x8, {more} params, {64 * 9 * (32 + 64) / 1000:.3g}k MACs",
        13: "→ 2x1x1, 1,026 params, 1.02k MACs",
        17: "→ 2",
        18: "→ 10, 30 params, 20 MACs",
    }
    editor.shut(URI)


def test_hints_stay_while_a_line_is_half_written_and_move_with_their_lines(editor: Editor) -> None:
    editor.open(URI, TEXT)
    before = shown(editor, URI)
    broken = TEXT.replace("  - flatten\n", "  - {type: dense, un\n\n  - flatten\n")
    assert [found.code for found in editor.change(URI, broken)] == ["yaml-syntax"]
    after = shown(editor, URI)
    assert after == {**{line: hint for line, hint in before.items() if line < 17}, 19: before[17], 20: before[18]}
    editor.shut(URI)


def test_shapes_above_a_layer_that_does_not_fit_are_those_of_this_version(editor: Editor) -> None:
    editor.open(URI, TEXT)
    found = editor.change(URI, TEXT.replace("wide: 4", "wide: 6").replace("kernel_size: 8", "kernel_size: 9"))
    assert [d.code for d in found] == ["shape-mismatch"]
    hints = shown(editor, URI)
    assert hints[11].startswith("→ 6x8x8")
    assert hints[13].startswith("→ ?")
    editor.shut(URI)


def test_published_counts(editor: Editor) -> None:
    path = SPECS / "densenet121.yaml"
    editor.open(path.as_uri(), path.read_text())
    lines = path.read_text().splitlines()
    hints = shown(editor, path.as_uri())
    logits = next(number for number, line in enumerate(lines, 1) if "logits" in line)
    assert hints[logits] == "→ 1000, 1,025,000 params, 1.02M MACs"
    growth = next(number for number, line in enumerate(lines, 1) if "filters: $growth," in line)
    assert hints[growth] == "→ 32x56x56, 36,864 params, 116M MACs, +57 more"
    editor.shut(path.as_uri())


def told(editor: Editor, line: int, word: str) -> str:
    """What hovering over a word of a line of the open text says."""
    column = TEXT.splitlines()[line - 1].index(word) + 1
    found = editor.ask_of(types.TEXT_DOCUMENT_HOVER, URI, line, column)
    return str(found.contents.value) if found else ""


def test_hover_tells_what_stands_there(editor: Editor) -> None:
    editor.open(URI, TEXT)
    layer = told(editor, 18, "dense")
    assert "| logits | 10 | 30 | 20 |" in layer
    assert "dense (layer)" in layer
    assert "output features" in told(editor, 18, "units") or "units" in told(editor, 18, "units")
    assert "`kernel_size`" in told(editor, 15, "kernel_size")
    inside = told(editor, 9, "relu")
    assert "| unit_1.relu_1 | 4x8x8 | 0 | 0 |" in inside
    assert "| unit_2.2.relu_1 | 8x8x8 | 0 | 0 |" in inside
    assert told(editor, 11, "wide").endswith("`wide`: 4, of `vars`")
    assert "parameter of the block" in told(editor, 8, "$filters")
    assert "block `unit` of this spec" in told(editor, 11, "unit")
    assert "channels, height, width" in told(editor, 2, "input")
    editor.change(URI, TEXT.replace("# a comment", "# cnnspec: ignore[dead-layer]"))
    column = len("  - {use: unit, with: {filters: $wide}}   # cnnspec: ignore[de")
    found = editor.ask_of(types.TEXT_DOCUMENT_HOVER, URI, 11, column)
    assert "dead-layer (warning)" in found.contents.value
    editor.shut(URI)
