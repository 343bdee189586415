"""Reads text into the positioned tree: YAML 1.2 core scalars and merge keys, strictly, and within limits of size."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cnnspec.diagnostics import Diagnostic, Related, Span, SpecError
from cnnspec.diagnostics.source import LINE_BREAK, given_text
from cnnspec.files import read_bounded
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree
from cnnspec.spec.yaml_errors import explained_error

MOST_BYTES = 1 << 19
MOST_NESTING = 50
MOST_DIGITS = 18  # digits of an integer: no count is larger, and conversion becomes slow
MOST_VALUES = 50_000  # values of a document; an alias counts at every use

MOST_FINDINGS = 1000  # errors of a document; after that the rest is not read

MERGE = "<<"  # YAML 1.1's key for merging mappings, which editors support

_SEPARATOR = re.compile("[\x85\u2028\u2029]")

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_WHOLE = re.compile(f"{_INTEGER.pattern}|{_OTHER_BASE.pattern}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def scalar(text: str) -> Any:
    """Return the value of an unquoted scalar by YAML 1.2's core schema (section 10.3.2); infinity for huge integers."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= MOST_DIGITS else math.inf
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0) if len(text) <= MOST_DIGITS else math.inf
    return float(text) if _FLOAT.fullmatch(text) else text


def read_text(path: str | Path, file: str) -> str:
    """Return the text of a file or the one given in its place; SpecError if it is not UTF-8 or too large, OSError."""
    text = given_text(file)
    if text is not None:
        return text
    try:
        return decode(read_bounded(path, MOST_BYTES), file)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        raise _failure("too-large", str(error.strerror), Span(file, 1, 1, 1, 1)) from error


def decode(content: bytes, file: str) -> str:
    """Return a file's content as text; SpecError if it is not UTF-8 or too large."""
    if len(content) > MOST_BYTES:
        raise _failure(
            "too-large", f"expected at most {MOST_BYTES:,} bytes, got {len(content):,}", Span(file, 1, 1, 1, 1)
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _failure(
            "not-utf8",
            f"expected UTF-8 text, got byte 0x{content[error.start]:02x}",
            _point(file, content[: error.start].decode("utf-8-sig")),
            "save the file as UTF-8",
        ) from error


def read(text: str, file: str) -> Tree:
    """Return the tree of a single document; SpecError for text that is not well-formed."""
    reader = _Reader(file)
    separator = _SEPARATOR.search(text)
    if separator:
        # These characters end a line in YAML 1.1 but in no editor, so later line numbers would be wrong.
        message = f"a line separator (U+{ord(separator[0]):04X}) that editors do not show as one"
        raise _failure("yaml-syntax", message, _point(file, text[: separator.start()]), "write a line break or a space")
    try:
        parser = yaml.SafeLoader(text)
        try:
            return reader.document(_events(parser))
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as error:
        problem, context = error.problem or error.context or "cannot be read", error.context or ""
        begun, met = (
            Span(file, mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2) if mark else None
            for mark in (error.context_mark, error.problem_mark)
        )
        raise SpecError([explained_error(problem, context, begun, met, text, file)]) from error
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", str(error))
        point = _point(file, text[: getattr(error, "position", 0)])
        raise _failure("yaml-syntax", f"not YAML: {reason}", point) from error


def _events(parser: yaml.SafeLoader) -> Iterator[Any]:
    """Yield the parser's events; a number in an escape or directive that Python cannot convert is a YAML error."""
    try:
        while parser.check_event():
            yield parser.get_event()  # type: ignore[no-untyped-call]
    except (ValueError, OverflowError) as error:
        mark = parser.get_mark()
        raise yaml.MarkedYAMLError(problem="a number that is too large", problem_mark=mark) from error


def _point(file: str, before: str) -> Span:
    """Return the position after the last character of a text."""
    lines = LINE_BREAK.split(before)
    return Span(file, len(lines), len(lines[-1]) + 1, len(lines), len(lines[-1]) + 2)


def _failure(
    code: str, message: str, span: Span, help: str | None = None, related: tuple[Related, ...] = ()
) -> SpecError:
    return SpecError([Diagnostic(code, "error", message, span, help=help, related=related)])


def _merged(tree: Mapping) -> Mapping:
    """Return the mapping merged with those under `<<`; its own keys win, then those of earlier mappings."""
    given = tree.values[MERGE]
    result = tree.without(MERGE)
    for base in given.items if isinstance(given, Items) else (given,):
        if not isinstance(base, Mapping):
            help = "write <<: *NAME, where &NAME stands in front of a mapping above"
            raise _failure("yaml-syntax", "<<: expected a mapping or a list of mappings", tree.keys[MERGE], help)
        result = Mapping({**base.keys, **result.keys}, {**base.values, **result.values}, tree.span)
    return result


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, tuple[Tree, int]] = {}
        self.wrong: list[Diagnostic] = []  # errors after which the rest can still be read
        self.values = 0

    def span(self, start: Any, end: Any) -> Span:
        return Span(self.file, start.line + 1, start.column + 1, end.line + 1, end.column + 1)

    def document(self, events: Iterator[Any]) -> Tree:
        tree: Tree | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if tree is not None:
                    span = self.span(event.start_mark, event.end_mark)
                    raise _failure(
                        "several-documents", "expected one document, got another one", span, "split the file"
                    )
                tree = self.value(next(events), events, 0)
        if tree is None:
            raise _failure(
                "empty-file", "expected a spec, got an empty file", Span(self.file, 1, 1, 1, 1), "start with cnnspec: 1"
            )
        if self.wrong:
            raise SpecError(self.wrong)
        return tree

    def value(self, event: Any, events: Iterator[Any], depth: int) -> Tree:
        before = self.values
        self.count(1, event)
        if depth > MOST_NESTING:
            span = self.span(event.start_mark, event.end_mark)
            raise _failure("too-large", f"expected at most {MOST_NESTING} levels of nesting", span)
        if getattr(event, "tag", None) not in (None, "!"):
            span = self.span(event.start_mark, event.end_mark)
            raise _failure("yaml-syntax", f"tags such as {event.tag} mean nothing here", span, "remove the tag")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                span = self.span(event.start_mark, event.end_mark)
                message = f"alias *{event.anchor} stands before its anchor"
                raise _failure("yaml-syntax", message, span, f"write &{event.anchor} in front of a value above")
            tree, size = self.anchors[event.anchor]
            self.count(size, event)
            return tree
        if isinstance(event, yaml.ScalarEvent):
            if any("\ud800" <= character <= "\udfff" for character in event.value):
                span = self.span(event.start_mark, event.end_mark)
                raise _failure("yaml-syntax", "half of a surrogate pair is no character", span, "write the character")
            is_plain = event.implicit[0]
            if is_plain and len(event.value) > MOST_DIGITS and _WHOLE.fullmatch(event.value):
                message = f"expected an integer of at most {MOST_DIGITS} characters, got one of {len(event.value):,}"
                self.wrong.append(
                    Diagnostic("too-large", "error", message, self.span(event.start_mark, event.end_mark))
                )
            tree = Scalar(
                scalar(event.value) if is_plain else event.value, self.span(event.start_mark, event.end_mark), is_plain
            )
        elif isinstance(event, yaml.SequenceStartEvent):
            tree = self.sequence(event, events, depth)
        else:
            tree = self.mapping(event, events, depth)
        if event.anchor:
            self.anchors[event.anchor] = (tree, self.values - before)
        return tree

    def count(self, values: int, event: Any) -> None:
        self.values += values
        if self.values > MOST_VALUES:
            span = self.span(event.start_mark, event.end_mark)
            raise _failure("too-large", f"expected at most {MOST_VALUES:,} values with all aliases expanded", span)

    def sequence(self, start: Any, events: Iterator[Any], depth: int) -> Items:
        items: list[Tree] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                return Items(tuple(items), self.closed(start, event, items))
            items.append(self.value(event, events, depth + 1))
        raise AssertionError("the parser closes every sequence")

    def mapping(self, start: Any, events: Iterator[Any], depth: int) -> Mapping:
        keys: dict[str, Span] = {}
        values: dict[str, Tree] = {}
        merges = False
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                span = self.closed(start, event, list(values.values()))
                return _merged(Mapping(keys, values, span)) if merges else Mapping(keys, values, span)
            span = self.span(event.start_mark, event.end_mark)
            if not isinstance(event, yaml.ScalarEvent):
                raise _failure("yaml-syntax", "expected a text as key", span, "put the key into quotes")
            merges = merges or (event.value == MERGE and event.implicit[0])
            key, value = event.value, self.value(next(events), events, depth + 1)
            if len(self.wrong) >= MOST_FINDINGS:
                raise SpecError(self.wrong)
            if key in keys:
                self.wrong.append(
                    Diagnostic(
                        "duplicate-key",
                        "error",
                        f"key '{key}' is given twice",
                        span,
                        help="remove one of the two",
                        related=(Related("first given here", keys[key]),),
                    )
                )
            keys[key], values[key] = span, value
        raise AssertionError("the parser closes every mapping")

    def closed(self, start: Any, end: Any, children: list[Tree]) -> Span:
        """Return the span of a collection from first to last character; a block collection ends with its last child."""
        if end.end_mark.index > end.start_mark.index or not children:
            return self.span(start.start_mark, end.end_mark)
        last = children[-1].span
        return Span(self.file, start.start_mark.line + 1, start.start_mark.column + 1, last.end_line, last.end_column)
