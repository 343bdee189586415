"""`# cnnspec: ignore[code]` behind a line silences findings that begin there; one that silences nothing is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from cnnspec.diagnostics.record import Diagnostic, Span
from cnnspec.diagnostics.source import source_lines

MOST_IDLE = 1000  # comments that silence nothing, which are told
IGNORE = re.compile(r"#\s*cnnspec:\s*ignore\s*\[([^\[\]]*)\]")


def unsilenced(found: Sequence[Diagnostic], file: str) -> list[Diagnostic]:
    """What no comment silences, and a warning for each code in a comment that silenced nothing."""
    silenced = cache(_silenced)
    kept = [d for d in found if d.code not in silenced(d.span.file, d.span.line)]
    used = {(d.span.line, d.code) for d in found if d.span.file == file}
    # Where errors are left, later stages did not run: what they would have found may be what a comment is for.
    wrong = any(d.severity == "error" for d in kept)
    idle = () if wrong else islice((d for d in _comments(file) if (d.span.line, d.path) not in used), MOST_IDLE)
    return sorted([*kept, *idle], key=lambda d: d.span)


def _silenced(file: str, line: int) -> set[str]:
    lines = source_lines(file)
    match = IGNORE.search(lines[line - 1]) if line <= len(lines) else None
    return {code.strip() for code in match[1].split(",")} if match else set()


def _comments(file: str) -> Iterator[Diagnostic]:
    """A warning for every code in every such comment, for where it silences nothing; `path` is the code."""
    for number, line in enumerate(source_lines(file), 1):
        match = IGNORE.search(line)
        if match is None:
            continue
        for code in re.finditer(r"[^\s,]+", match[1]):
            column = match.start(1) + code.start() + 1
            span = Span(file, number, column, number, column + len(code[0]))
            message = f"no {code[0]} to ignore on this line"
            yield Diagnostic("unused-ignore", "warning", message, span, code[0], "remove it, or check the code")
