"""From text to the positioned tree: YAML 1.2 core scalars, strict, and with limits on what a file may ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from cnnspec.diagnostics import Diagnostic, Related, Span, SpecError
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

MOST_BYTES = 1 << 20
MOST_NESTING = 50
MOST_DIGITS = 18  # of an integer; nothing counts that far, and conversion takes longer and longer
MOST_VALUES = 100_000  # with aliases counted as often as they are used

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
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
    """The value of an unquoted scalar, by the core schema of YAML 1.2 (section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= MOST_DIGITS else float(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def decode(content: bytes, file: str) -> str:
    """The text of a file; SpecError where it is not UTF-8 or too large."""
    if len(content) > MOST_BYTES:
        raise _failure(
            "too-large", f"expected at most {MOST_BYTES:,} bytes, got {len(content):,}", Span(file, 1, 1, 1, 1)
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise _failure(
            "not-utf8",
            f"expected UTF-8 text, got byte 0x{content[error.start]:02x}",
            Span(file, line, column, line, column + 1),
            "save the file as UTF-8",
        ) from error


def read(text: str, file: str) -> Tree:
    """The tree of one document; SpecError for anything that is not well-formed."""
    reader = _Reader(file)
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        return reader.document(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or error.context or "cannot be read"
        tab = "\\t" in problem
        raise _failure(
            "yaml-syntax",
            "a tab cannot indent or separate" if tab else f"not YAML: {problem}",
            Span(file, line, column, line, column + 1),
            "indent with spaces" if tab else None,
        ) from error
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        reason = getattr(error, "reason", str(error))
        raise _failure("yaml-syntax", f"not YAML: {reason}", Span(file, line, column, line, column + 1)) from error


def _failure(code: str, message: str, span: Span, help: str | None = None) -> SpecError:
    return SpecError([Diagnostic(code, "error", message, span, help=help)])


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, tuple[Tree, int]] = {}
        self.duplicates: list[Diagnostic] = []
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
        if self.duplicates:
            raise SpecError(self.duplicates)
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
                raise _failure("yaml-syntax", f"alias *{event.anchor} stands before its anchor", span)
            tree, size = self.anchors[event.anchor]
            self.count(size, event)
            return tree
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.implicit[0]
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
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                return Mapping(keys, values, self.closed(start, event, list(values.values())))
            span = self.span(event.start_mark, event.end_mark)
            if not isinstance(event, yaml.ScalarEvent):
                raise _failure("yaml-syntax", "expected a text as key", span, "put the key into quotes")
            key, value = event.value, self.value(next(events), events, depth + 1)
            if key in keys:
                self.duplicates.append(
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
        """From its first character to its last; a block collection ends with its last child."""
        if end.end_mark.index > end.start_mark.index or not children:
            return self.span(start.start_mark, end.end_mark)
        last = children[-1].span
        return Span(self.file, start.start_mark.line + 1, start.start_mark.column + 1, last.end_line, last.end_column)
