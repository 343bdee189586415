"""What is offered where the cursor stands, `|` in the texts, which need not be YAML there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

types = pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

if TYPE_CHECKING:
    from tests.lsp.editor import Editor

HEAD = """cnnspec: 1
input: [3, 8, 8]
vars: {wide: 4}
blocks:
  unit:
    params: {filters: required, size: 3}
    layers:
      - {id: inner, type: conv2d, filters: $filters, kernel_size: $size, padding: same}
"""


def offered(text: str, *, snippets: bool = True, file: str = "/tmp/complete.yaml") -> dict[str, Any]:
    """What is offered at the mark, by its label; the text without the mark and its line is what was there before."""
    from cnnspec.lsp.analysis import Trust
    from cnnspec.lsp.completion import completion
    from cnnspec.lsp.documents import Document

    before, _, _ = text.partition("|")
    document = Document(f"file://{file}", text.replace("|", ""), types.PositionEncodingKind.Utf16, Trust())
    line = before.count("\n")
    position = types.Position(line, len(before) - before.rfind("\n") - 1)
    return {item.label: item for item in completion(document, position, snippets=snippets)}


@pytest.mark.parametrize(
    ("text", "expected", "absent"),
    [
        (HEAD + "layers:\n  - {type: conv2d, |", {"filters", "kernel_size", "id", "from"}, {"type", "units"}),
        (HEAD + "layers:\n  - {type: conv2d, filters: 3, |}\n", {"kernel_size"}, {"filters"}),
        (HEAD + "layers:\n  - type: conv2d\n    fil|\n  - relu\n", {"filters", "kernel_size"}, {"type"}),
        (HEAD + "layers:\n  - type: |\n", {"conv2d", "dense", "residual"}, {"unit", "sgd"}),
        (HEAD + "layers:\n  - |\n  - relu\n", {"conv2d", "relu", "unit", "squeeze_excite", "residual", "type", "use"},
         set()),
        (HEAD + "layers:\n  - re|", {"relu", "unit"}, set()),
        (HEAD + "layers:\n  - use: |\n", {"unit", "squeeze_excite"}, {"conv2d"}),
        (HEAD + "layers:\n  - {use: unit, with: {|", {"filters", "size"}, {"kernel_size"}),
        (HEAD + "layers:\n  - {use: unit, |", {"with", "repeat", "from", "share"}, {"filters", "use"}),
        (HEAD + "layers:\n  - {id: a, type: relu}\n  - {type: add, from: [a, |", {"a", "input"}, {"inner"}),
        (HEAD + "layers:\n  - {id: a, type: relu}\n  - type: residual\n    body:\n      - {id: b, type: relu}\n"
         "      - {type: add, from: [|]}\n  - {id: c, type: relu}\n", {"a", "b", "input"}, {"c", "inner"}),
        (HEAD + "layers:\n  - {type: conv2d, filters: $w|", {"wide", "in"}, {"conv2d"}),
        (HEAD + 'layers:\n  - {type: conv2d, filters: "${in * wi|', {"wide", "in", "filters"}, set()),
        (HEAD + "layers: [relu]\ntrain:\n  |", {"epochs", "optimizer", "loss", "batch_size"}, {"filters"}),
        (HEAD + "layers: [relu]\ntrain:\n  epochs: 3\n  optimizer: |", {"sgd", "adamw"}, {"conv2d"}),
        (HEAD + "layers: [relu]\ntrain: {optimizer: {type: sgd, |", {"learning_rate", "weight_decay"}, {"beta1"}),
        (HEAD + "layers: [relu]\ntrain: {loss: |", {"softmax_cross_entropy"}, {"sgd"}),
        (HEAD + "layers: [relu]\ndata: {source: |", {"mnist", "digits", "image_folder"}, {"sgd"}),
        (HEAD + "layers: [relu]\nexpect: {|", {"params", "macs", "output"}, {"epochs"}),
        (HEAD + "layers: [relu]\nrequire:\n  |", {"test.accuracy"}, {"params"}),
        (HEAD + "layers:\n  - {type: conv2d, padding: |", {"same", "valid"}, {"conv2d"}),
        (HEAD + "layers:\n  - {type: dense, units: 3, trainable: |", {"true", "false"}, set()),
        (HEAD + "layers:\n  - relu\n|", {"train", "data", "expect", "require"}, {"layers", "input", "vars"}),
        (HEAD + "layers:\n  - relu  # cnnspec: ignore[de|", {"dead-layer"}, {"shape-mismatch"}),
        (HEAD + "  more:\n    |", {"params", "layers", "inputs"}, {"filters"}),
        (HEAD + "layers:\n  - relu  # a comment |", set(), {"conv2d"}),
    ],
)  # fmt: skip
def test_what_fits_is_offered(text: str, expected: set[str], absent: set[str]) -> None:
    labels = offered(text).keys()
    assert expected <= labels
    assert not absent & labels


def test_an_item_brings_what_it_needs() -> None:
    found = offered(HEAD + "layers:\n  - de|")
    assert found["dense"].text_edit.new_text == "{type: dense, units: ${1}}"
    assert found["unit"].text_edit.new_text == "{use: unit, with: {filters: ${1}}}"
    assert found["relu"].text_edit.new_text == "relu"
    start = found["dense"].text_edit.range.start
    assert (start.line, start.character) == (9, 4)


def test_defaults_are_filled_in() -> None:
    text = HEAD + "layers: [relu]\ntrain: {optimizer: {type: sgd, lea|"
    assert offered(text)["learning_rate"].text_edit.new_text == "learning_rate: ${1:0.01}"
    assert offered(text, snippets=False)["learning_rate"].text_edit.new_text == "learning_rate: 0.01"
    found = offered(HEAD + "layers:\n  - {type: conv2d, |")
    assert found["filters"].sort_text < found["padding"].sort_text
    assert "output channels" in found["filters"].documentation


def test_every_type_of_layer_that_is_offered_is_one_when_its_stops_are_filled() -> None:
    from cnnspec.spec import loads

    for name, item in offered(HEAD + "layers:\n  - |").items():
        text = item.text_edit.new_text
        if text == name and name not in ("type", "use"):
            loads(
                f"cnnspec: 1\ninput: [4, 8, 8]\nlayers:\n  - {{id: a, type: relu}}\n  - {text}\n".replace(
                    "- inner", "- relu"
                )
            )


def test_files_to_extend(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(HEAD)
    found = offered("cnnspec: 1\nextends: |\n", file=str(tmp_path / "heir.yaml"))
    assert "base.yaml" in found


def test_over_the_protocol(editor: Editor) -> None:
    uri = "file:///tmp/completed.yaml"
    editor.open(uri, HEAD + "layers:\n  - {type: conv2d, fil\n")
    found = editor.ask_of(types.TEXT_DOCUMENT_COMPLETION, uri, 10, len("  - {type: conv2d, fil") + 1)
    item = next(item for item in found.items if item.label == "filters")
    assert item.text_edit.new_text == "filters: "
    assert item.text_edit.range.start.character == len("  - {type: conv2d, ")
    editor.shut(uri)


def test_every_key_of_the_schema_says_what_it_means() -> None:
    from cnnspec.lsp.schema import Schema

    schema = Schema()
    silent, waiting = [], [*schema.whole["definitions"].items(), ("", schema.whole)]
    while waiting:
        path, part = waiting.pop()
        for key, below in part.get("properties", {}).items():
            told = any(inner.get("description") for inner in schema.parts(below, None))
            silent += [] if told or "const" in below else [f"{path}.{key}"]
            waiting.append((f"{path}.{key}", below))
        for key in ("then", "else", "items", "additionalProperties"):
            waiting += [(path, part[key])] if isinstance(part.get(key), dict) else []
        waiting += [(path, inner) for key in ("allOf", "anyOf") for inner in part.get(key, ())]
    assert silent == []
    assert schema.whole["$id"] == "urn:cnnspec:schema:1"
