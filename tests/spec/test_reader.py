"""Reading: YAML 1.2 core scalars, places, strictness, limits."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cnnspec.diagnostics import SpecError
from cnnspec.spec.reader import decode, read, scalar
from cnnspec.spec.tree import Items, Mapping, plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("2001-01-01", "2001-01-01"),
        ("<<", "<<"),
    ],
)
def test_core_scalars(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_quotes_make_text() -> None:
    assert plain(read("a: '1e-4'\nb: \"true\"\nc: 1e-4\n", "f")) == {"a": "1e-4", "b": "true", "c": 1e-4}


def test_places_count_from_1() -> None:
    tree = read("a: 1\nlist:\n  - {key: value}\n  - second\n", "f.yaml")
    assert isinstance(tree, Mapping)
    assert (tree.keys["list"].line, tree.keys["list"].column, tree.keys["list"].end_column) == (2, 1, 5)
    items = tree.values["list"]
    assert isinstance(items, Items)
    first = items.items[0]
    assert isinstance(first, Mapping)
    span = first.values["key"].span
    assert (span.line, span.column, span.end_line, span.end_column) == (3, 11, 3, 16)
    assert (first.span.line, first.span.column, first.span.end_column) == (3, 5, 17)


def failure(text: str) -> tuple[str, int, int, str]:
    with pytest.raises(SpecError) as caught:
        read(text, "f")
    found = caught.value.diagnostics[0]
    return found.code, found.span.line, found.span.column, found.message


def test_a_duplicate_key_shows_both_places() -> None:
    with pytest.raises(SpecError) as caught:
        read("a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n", "f")
    first, second = caught.value.diagnostics
    assert (first.code, first.span.line, first.related[0].span.line) == ("duplicate-key", 3, 1)
    assert first.message == "key 'a' is given twice"
    assert (second.span.line, second.span.column, second.related[0].span.column) == (4, 11, 5)


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "message"),
    [
        ("a:\n\t- b\n", "yaml-syntax", 2, 1, "a tab cannot indent or separate"),
        ("a: [1, 2\nb: 3\n", "yaml-syntax", 1, 4, "a bracket that is never closed"),
        ("a: {b: 1\n", "yaml-syntax", 1, 4, "a bracket that is never closed"),
        ("a: 'open\n", "yaml-syntax", 1, 4, "a quote that is never closed"),
        ("a: |\n x\ny\n", "yaml-syntax", 3, 1, "a text where a key was expected"),
        ("a:\n  - b\n c: 1\n", "yaml-syntax", 3, 2, "a line that does not fit the indentation above"),
        ("a: b: c\n", "yaml-syntax", 1, 5, "a colon where none can be"),
        ("{a: 1}}\n", "yaml-syntax", 1, 7, "more text behind the end of the document"),
        ("a: 1\nb: x\u2028y\n", "yaml-syntax", 2, 5, "a line separator (U+2028) that editors do not show as one"),
        ("a: {<<: [{b: 1}, 3]}\n", "yaml-syntax", 1, 5, "<<: expected a mapping or a list of mappings"),
        ("a: {<<: {b: 1}, <<: {c: 1}}\n", "duplicate-key", 1, 17, "key '<<' is given twice"),
        ('a: "\\ud800"\n', "yaml-syntax", 1, 4, "half of a surrogate pair is no character"),
        ("a: *nowhere\n", "yaml-syntax", 1, 4, "alias *nowhere stands before its anchor"),
        ("? [a]\n: 1\n", "yaml-syntax", 1, 3, "expected a text as key"),
        ("a: \x01\n", "yaml-syntax", 1, 4, "not YAML: special characters are not allowed"),
        ("", "empty-file", 1, 1, "expected a spec, got an empty file"),
        ("# nothing\n", "empty-file", 1, 1, "expected a spec, got an empty file"),
        ("a: 1\n---\nb: 2\n", "several-documents", 2, 1, "expected one document, got another one"),
    ],
)
def test_what_is_not_well_formed(text: str, code: str, line: int, column: int, message: str) -> None:
    found = failure(text)
    assert found[:3] == (code, line, column)
    assert found[3].startswith(message)


@pytest.mark.parametrize(
    ("text", "line", "column", "help"),
    [
        ("seed 0\nname: a\n", 1, 1, "write seed: 0"),
        ("train:\n  epochs=3  # few\n\n  # more\n  batch_size: 64\n", 2, 3, "write epochs: 3"),
        ("cnnspec:1\nname: a\n", 1, 1, "write cnnspec: 1"),
        ("name: a\ninput [1, 8, 8]\nseed: 0\n", 2, 1, "write input: [1, 8, 8]"),
        ("train:\n  optimizer {type: sgd, momentum: 0.9}\n", 2, 3, "write optimizer: {..."),
        ("- type: conv2d\n   filters: 8\n", 2, 4, "align filters with column 3, where line 1 begins"),
        ("- relu\n-flatten\n- relu\n", 2, 1, "write - flatten"),
        ("- {filters: 8 stride: 2}\n", 1, 15, "put a comma in front of stride"),
        ("- {filters: ${width * 2}, stride: 2}\n", 1, 13, 'write "${width * 2}"'),
        ("- {type: a: b}\n", 1, 11, "put a text with a colon into quotes"),
        ("- {filters: 8\n- {filters: 4}\n", 1, 3, "add the closing bracket }"),
        ("- {filters: 8}}\n- relu\n", 1, 15, "remove it"),
        ("- {size: [3, 3}\n", 1, 15, "write ] in front of it, or in its place"),
        ("a: [\n  - b\n]\n", 2, 3, "separate values within brackets by commas"),
        ("a: 'b' c\n", 1, 8, "remove it, or put quotes around all of the value"),
    ],
)
def test_a_mistake_in_yaml_has_its_cure(text: str, line: int, column: int, help: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text, "f")
    found = caught.value.diagnostics[0]
    assert (found.span.line, found.span.column, found.help) == (line, column, help)


def test_a_billion_laughs_are_one_finding() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    code, line, _, message = failure("\n".join(lines))
    assert code == "too-large"
    assert line <= 6
    assert message == "expected at most 50,000 values with all aliases expanded"


def test_nesting_has_a_limit() -> None:
    assert failure("[" * 5000)[0] == "too-large"
    assert failure("a: " + "{b: " * 60 + "1" + "}" * 60)[3] == "expected at most 50 levels of nesting"


def test_bytes_that_are_not_utf8_are_marked() -> None:
    with pytest.raises(SpecError) as caught:
        decode(b"a: 1\nb: \xff\n", "f")
    found = caught.value.diagnostics[0]
    assert (found.code, found.span.line, found.span.column) == ("not-utf8", 2, 4)
    assert decode(b"\xef\xbb\xbfa: 1", "f") == "a: 1"
    with pytest.raises(SpecError, match="too-large"):
        decode(b"a" * (1 << 21), "f")


MERGED = """
base: &base {a: 1, b: {c: 2}}
more: &more {b: 3, d: 4}
"""


@pytest.mark.parametrize(
    "text",
    [
        "{<<: *base, a: 5}",
        "{a: 5, <<: *base}",
        "{<<: [*base, *more], b: 6}",
        "{<<: [*more, *base]}",
    ],
)
def test_merge_keys_are_read_as_pyyaml_reads_them(text: str) -> None:
    text = f"{MERGED}x: {text}\n"
    assert plain(read(text, "f")) == yaml.safe_load(text)


def test_a_merged_value_keeps_its_place_and_a_quoted_key_is_none() -> None:
    tree = read(f"{MERGED}x:\n  <<: *base\n  a: 5\n", "f")
    assert isinstance(tree, Mapping)
    merged = tree.values["x"]
    assert isinstance(merged, Mapping)
    assert (merged.keys["a"].line, merged.keys["b"].line) == (6, 2)
    assert plain(read('{"<<": 1}', "f")) == {"<<": 1}
