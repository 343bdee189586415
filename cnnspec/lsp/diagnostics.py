"""Findings in the form that the editor shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from lsprotocol import types

from cnnspec.diagnostics import Diagnostic, Span
from cnnspec.lsp.documents import Document, Documents

SOURCE = "cnnspec"
SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}
FADED = ("unused-var", "unused-block", "unused-parameter", "unused-id", "unused-ignore", "dead-layer")


def diagnostics(documents: Documents, document: Document) -> list[types.Diagnostic]:
    """Return all findings of `validate` for a document, in its order."""
    text_of = cache(documents.text_of)  # a file with a thousand findings is split into its lines once

    def location(span: Span) -> types.Location:
        return types.Location(documents.uri_of(span.file), text_of(span.file).range(span))

    return [_lsp_diagnostic(document, diagnostic, location) for diagnostic in document.analysis.diagnostics]


def span_here(document: Document, found: Diagnostic) -> Span:
    """Return where a document shows a finding; for one in an extended file or a shipped block, where it names that."""
    if found.span.file == document.file:
        return found.span
    uses = (related.span for related in found.related if related.span.file == document.file)
    first = Span(document.file, 1, 1, 1, len(document.text.line(1)) + 1)
    lines = enumerate(document.text.lines, 1)
    extends = (Span(document.file, n, 1, n, len(line) + 1) for n, line in lines if line.startswith("extends"))
    return next(uses, None) or next(extends, first)


def _lsp_diagnostic(
    document: Document, found: Diagnostic, location: Callable[[Span], types.Location]
) -> types.Diagnostic:
    elsewhere = found.span.file != document.file
    lines = [found.message, *found.notes, *([f"help: {found.help}"] if found.help else [])]
    related = [(found.message, found.span)] if elsewhere else []
    related += [(other.message, other.span) for other in found.related]
    return types.Diagnostic(
        range=document.text.range(span_here(document, found)),
        severity=SEVERITIES[found.severity],
        code=found.code,
        source=SOURCE,
        message="\n".join(lines),
        tags=[types.DiagnosticTag.Unnecessary] if found.code in FADED else None,
        related_information=[types.DiagnosticRelatedInformation(location(span), message) for message, span in related]
        or None,
    )
