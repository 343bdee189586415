"""Converts places in a text: lines and columns from 1, as in spans, and positions, as the client counts them."""

from __future__ import annotations

from lsprotocol import types

from cnnspec.diagnostics import Span
from cnnspec.diagnostics.source import LINE_BREAK


def _utf8(character: str) -> int:
    return len(character.encode("utf-8", "surrogatepass"))


def _utf16(character: str) -> int:
    return 2 if character > "\uffff" else 1


# Code units of a character, by the encoding that client and server have agreed on.
UNITS = {types.PositionEncodingKind.Utf8: _utf8, types.PositionEncodingKind.Utf16: _utf16}


class Text:
    """The lines of a text, and the encoding by which the client counts columns."""

    def __init__(self, text: str, encoding: types.PositionEncodingKind) -> None:
        self.text = text
        self.lines = LINE_BREAK.split(text)
        self.units = UNITS.get(encoding)  # None if columns count characters

    def line(self, number: int) -> str:
        """Return a line without its line break; empty after the last line."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def position(self, line: int, column: int) -> types.Position:
        """Return the client's position for a line and a column."""
        before = self.line(line)[: column - 1]
        units = len(before) if self.units is None or before.isascii() else sum(map(self.units, before))
        return types.Position(min(line, len(self.lines)) - 1, units)

    def place(self, position: types.Position) -> tuple[int, int]:
        """Return line and column of a client's position, which may lie after the end of the line or text."""
        number = min(position.line, len(self.lines) - 1) + 1
        line, rest = self.line(number), position.character
        if self.units is None or line.isascii():
            return number, min(rest, len(line)) + 1
        for column, character in enumerate(line, 1):
            if rest <= 0:
                return number, column
            rest -= self.units(character)
        return number, len(line) + 1

    def range(self, span: Span) -> types.Range:
        """Return the client's range for a span."""
        return types.Range(self.position(span.line, span.column), self.position(span.end_line, max(span.end_column, 1)))

    @property
    def whole(self) -> types.Range:
        """The client's range of the whole text."""
        return types.Range(types.Position(0, 0), self.position(len(self.lines), len(self.lines[-1]) + 1))


class Lines:
    """Maps lines of an earlier text to those of a later one: the unchanged lines above and below all changes."""

    def __init__(self, before: str, after: Text) -> None:
        old, new = LINE_BREAK.split(before), after.lines
        same = before == after.text
        self.above = len(old) if same else _equal_at_start(old, new)
        self.below = 0 if same else min(_equal_at_start(old[::-1], new[::-1]), min(len(old), len(new)) - self.above)
        self.old, self.new = len(old), len(new)

    def later(self, line: int) -> int | None:
        """Return the number that an earlier line has in the later text; None if it has changed."""
        if line <= self.above:
            return line
        return line + self.new - self.old if line > self.old - self.below else None

    def earlier(self, line: int) -> int | None:
        """Return the number that a later line had in the earlier text; None if it has changed."""
        if line <= self.above:
            return line
        return line + self.old - self.new if line > self.new - self.below else None


def _equal_at_start(some: list[str], others: list[str]) -> int:
    """Return the number of equal elements at the start of two lists."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((number for number, (before, other) in pairs if before != other), min(len(some), len(others)))


def within(span: Span, line: int, column: int) -> bool:
    """Tell whether a place lies in a span or directly after it."""
    return (span.line, span.column) <= (line, column) <= (span.end_line, span.end_column)
