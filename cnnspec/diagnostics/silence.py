"""Comments that silence warnings; a comment that silences nothing, or names an error, is itself a warning.

`# cnnspec: ignore[code, code]` silences warnings that begin on its line, `# cnnspec: ignore-file[code]` those of the
whole file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.record import Diagnostic, Span
from cnnspec.diagnostics.source import source_lines

MOST_IDLE = 1000  # useless comments that are reported
IGNORE = re.compile(r"#\s*cnnspec:\s*ignore(-file)?\s*\[([^\[\]]*)\]")
WHOLE_FILE = 0  # stands for the line number of a comment for the whole file


def unsilenced(diagnostics: Sequence[Diagnostic], file: str) -> list[Diagnostic]:
    """Return the findings that no comment silences, and a warning for each code in a comment that silenced nothing.

    Errors are never silenced: an error prevents later checks, whose findings would be missed.
    """
    silenced: dict[str, dict[int, set[str]]] = {}
    remaining: list[Diagnostic] = []
    used: set[tuple[int, str]] = set()
    for finding in diagnostics:
        where = finding.span.file
        if where not in silenced:
            silenced[where] = _silenced(where)
        line = next((n for n in (finding.span.line, WHOLE_FILE) if finding.code in silenced[where].get(n, ())), None)
        if line is None or finding.severity == "error":
            remaining.append(finding)
        elif where == file:
            used.add((line, finding.code))
    # After an error, later stages did not run, and a comment may be for one of their findings.
    wrong = any(finding.severity == "error" for finding in remaining)
    idle = (
        warning for warning in _idle(file, used) if not wrong or (warning.path in CATALOGUE and _is_error(warning.path))
    )
    return sorted([*remaining, *islice(idle, MOST_IDLE)], key=lambda finding: finding.span)


def _silenced(file: str) -> dict[int, set[str]]:
    """Return the codes that comments of a file silence, by line."""
    codes: dict[int, set[str]] = {}
    for number, code, _ in _comments(file):
        codes.setdefault(number, set()).add(code)
    return codes


def _idle(file: str, used: set[tuple[int, str]]) -> Iterator[Diagnostic]:
    """Yield a warning for every code in a comment that silenced nothing; the warning's `path` is the code."""
    for number, code, span in _comments(file):
        if (number, code) in used:
            continue
        message = f"no {code} to ignore {'in this file' if number == WHOLE_FILE else 'on this line'}"
        help = "remove it, or check the code"
        if code in CATALOGUE and _is_error(code):
            message, help = f"{code} is an error, which no comment ignores", "mend what is wrong, and remove this"
        yield Diagnostic("unused-ignore", "warning", message, span, code, help)


def _is_error(code: str) -> bool:
    return CATALOGUE[code].severity == "error"


def _comments(file: str) -> Iterator[tuple[int, str, Span]]:
    """Yield the line that each code in a comment applies to, the code, and its place."""
    for number, line in enumerate(source_lines(file), 1):
        if "cnnspec" not in line:
            continue
        for match in IGNORE.finditer(line):
            for code in re.finditer(r"[^\s,]+", match[2]):
                column = match.start(2) + code.start() + 1
                span = Span(file, number, column, number, column + len(code[0]))
                yield WHOLE_FILE if match[1] else number, code[0], span
