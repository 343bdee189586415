"""Code actions: applied to the text, they do what `validate --fix` does, or silence, or take over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from lsprotocol.types import TextEdit

    from tests.lsp.editor import Editor

URI = "file:///tmp/actions.yaml"
HEAD = "cnnspec: 1\ninput: [1, 8, 8]\n"


def applied(text: str, edits: list[TextEdit]) -> str:
    """A text of single-byte characters with the edits of an action in it."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda edit: (edit.range.start.line, edit.range.start.character), reverse=True):
        start, end = edit.range.start, edit.range.end
        whole = [*lines, ""][end.line][end.character :]
        before = lines[start.line][: start.character]
        lines[start.line : end.line + 1] = (before + edit.new_text + whole).split("\n")
    return "\n".join(lines)


def offers(editor: Editor, text: str, line: int, only: list[str] | None = None) -> dict[str, str]:
    """What the actions on a line make of a text, by their titles."""
    editor.open(URI, text)
    place = types.Range(types.Position(line - 1, 0), types.Position(line - 1, 0))
    context = types.CodeActionContext([], only)
    found = editor.ask(
        types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionParams(types.TextDocumentIdentifier(URI), place, context)
    )
    editor.shut(URI)
    return {action.title: applied(text, action.edit.changes[URI]) for action in found}


def test_a_fix(editor: Editor) -> None:
    text = HEAD + "layers:\n  - flatten\n  - {type: dense, unit: 10}\n  - {type: dense, units: 10, activaton: relu}\n"
    mended = text.replace("unit:", "units:")
    found = offers(editor, text, 5)
    assert found["Replace unit by units"] == mended
    assert found["Fix all 2 that cnnspec can"] == mended.replace("activaton", "activation")
    assert list(offers(editor, text, 1, ["source.fixAll"])) == ["Fix all 2 that cnnspec can"]
    assert list(offers(editor, text, 5, ["quickfix"])) == ["Replace unit by units"]
    assert "Replace unit by units" not in offers(editor, text, 4)


def test_a_warning_is_silenced_on_its_line(editor: Editor) -> None:
    text = HEAD + "layers:\n  - {id: never, type: relu}\n  - relu\n"
    found = offers(editor, text, 4)
    silenced = found["Ignore unused-id on this line"]
    assert silenced == text.replace("relu}\n", "relu}  # cnnspec: ignore[unused-id]\n")
    assert "unused-id" not in {d.code for d in editor.open(URI, silenced)}
    editor.shut(URI)
    other = text.replace("relu}\n", "relu}  # cnnspec: ignore[no-effect]\n")
    assert offers(editor, other, 4)["Ignore unused-id on this line"] == text.replace(
        "relu}\n", "relu}  # cnnspec: ignore[no-effect, unused-id]\n"
    )


@pytest.mark.parametrize(
    ("before", "title", "after"),
    [
        ("{params: 600}", "Set expect.params to 650, which it is", "{params: 650}"),
        ("{params: 1K, output: [10]}", "Set expect.params to 650, which it is", "{params: 650, output: [10]}"),
        ("{params: {max: 600}}", "Set expect.params.max to 650, which it is", "{params: {max: 650}}"),
        ("{macs: {min: 1M}}", "Set expect.macs.min to 640, which it is", "{macs: {min: 640}}"),
        ("{output: [9]}", "Set expect.output to [10], which it is", "{output: [10]}"),
    ],
)
def test_expect_takes_over_what_came_out(editor: Editor, before: str, title: str, after: str) -> None:
    text = HEAD + "layers:\n  - flatten\n  - {type: dense, units: 10}\nexpect: "
    changed = offers(editor, f"{text}{before}\n", 6)[title]
    assert changed == f"{text}{after}\n"
    assert editor.open(URI, changed) == []
    editor.shut(URI)


def test_an_error_cannot_be_silenced(editor: Editor) -> None:
    text = HEAD + "layers:\n  - {type: conv2d, filters: 0, kernel_size: 3}\n"
    assert not any("gnore" in title for title in offers(editor, text, 4))
