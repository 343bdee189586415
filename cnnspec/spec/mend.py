"""Safe fixes: each replaces a single stretch of text, and leaves comments and layout untouched."""

from __future__ import annotations

from collections.abc import Iterable

from cnnspec.diagnostics import Diagnostic, Fix
from cnnspec.diagnostics.source import lines_and_breaks


def mend(text: str, file: str, diagnostics: Iterable[Diagnostic]) -> tuple[str, int]:
    """Return the text with every fix for this file applied, the last one first, and the number of fixes."""
    fixes = {d.fix for d in diagnostics if d.fix is not None and d.fix.span.file == file and _on_one_line(d.fix)}
    lines = lines_and_breaks(text)
    for fix in sorted(fixes, key=lambda fix: fix.span, reverse=True):
        span = fix.span
        at = 2 * (span.line - 1)
        lines[at] = lines[at][: span.column - 1] + fix.replacement + lines[at][span.end_column - 1 :]
    return "".join(lines), len(fixes)


def _on_one_line(fix: Fix) -> bool:
    return fix.span.line == fix.span.end_line
