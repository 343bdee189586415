"""Diagnostics as text for people: a first line that is complete by itself, the source line, notes and the cure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cnnspec.diagnostics.record import Diagnostic, Span, first_line, loggable
from cnnspec.diagnostics.source import source_lines

WIDEST = 160  # characters of a source line that are shown

RED, YELLOW, BOLD, CYAN, RESET = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[36m", "\x1b[0m"


def concise(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return a line for each finding, and a summary."""
    return "\n".join([*(first_line(diagnostic) for diagnostic in diagnostics), summary(diagnostics, files)])


def full(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return each finding with its source line, and a summary."""
    return "\n\n".join([*(explained(diagnostic) for diagnostic in diagnostics), summary(diagnostics, files)])


def explained(diagnostic: Diagnostic, colour: bool = False) -> str:
    """Return the first line, the source line with a caret under the place, notes, related places and help."""
    lines = [_coloured(first_line(diagnostic), diagnostic) if colour else first_line(diagnostic)]
    lines += _excerpt(diagnostic.span)
    lines += [f"note: {note}" for note in diagnostic.notes]
    for related in diagnostic.related:
        span = related.span
        lines.append(f"note: {loggable(span.file)}:{span.line}:{span.column}: {related.message}")
    if diagnostic.help:
        lines.append(f"{CYAN}help:{RESET} {diagnostic.help}" if colour else f"help: {diagnostic.help}")
    return "\n".join(lines)


def summary(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return a summary such as `2 errors, 1 warning in 3 files`."""
    counts = [(sum(d.severity == severity for d in diagnostics), severity) for severity in ("error", "warning")]
    counted = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count)
    return f"{counted or 'no problems'} in {len(files)} file{'' if len(files) == 1 else 's'}"


def _excerpt(span: Span) -> list[str]:
    """Return the source line, or the part of it around the place, and a line of carets under the place."""
    lines = source_lines(span.file)
    if not 0 < span.line <= len(lines):
        return []
    text = lines[span.line - 1]
    start = min(span.column - 1, len(text))
    end = min(span.end_column - 1, len(text)) if span.end_line == span.line else len(text)
    cut = max(0, start - WIDEST // 2) if len(text) > WIDEST else 0
    shown = "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text[cut : cut + WIDEST]
    )
    front = "..." if cut else ""
    back = "..." if cut + WIDEST < len(text) else ""
    # Tabs stay tabs, so that the caret stands under its place whatever their width.
    lead = "".join("\t" if c == "\t" else " " * _cells(c) for c in front + shown[: start - cut])
    carets = "^" * max(1, sum(map(_cells, shown[start - cut : end - cut])))
    number = str(span.line)
    margin = " " * len(number)
    return [f"{margin} |", f"{number} | {front}{shown}{back}", f"{margin} | {lead}{carets}"]


def _cells(character: str) -> int:
    """Return the number of terminal columns that a character takes."""
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) == "Mn":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _coloured(line: str, diagnostic: Diagnostic) -> str:
    colour = RED if diagnostic.severity == "error" else YELLOW
    word = f"{diagnostic.severity}[{diagnostic.code}]"
    return f"{BOLD}{line.replace(word, f'{colour}{word}{RESET}{BOLD}', 1)}{RESET}"
