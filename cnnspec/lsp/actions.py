"""Code actions: apply fixes, silence a warning on its line, set a missed figure of `expect`, lay out the text."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from cnnspec.check import figures
from cnnspec.diagnostics import Diagnostic, Fix, Span, SpecError
from cnnspec.diagnostics.silence import IGNORE
from cnnspec.lsp.diagnostics import span_here
from cnnspec.lsp.documents import Document
from cnnspec.spec.layout import formatted
from cnnspec.spec.mend import mend

FIX_ALL = f"{types.CodeActionKind.SourceFixAll.value}.cnnspec"


def actions(document: Document, params: types.CodeActionParams) -> list[types.CodeAction]:
    """Return the code actions for the findings in a range, and the action that applies all fixes."""
    wanted = params.context.only
    result = [*_quick(document, params.range), *_fix_all(document)]
    if wanted is None:
        return result
    kinds = [kind.value if isinstance(kind, types.CodeActionKind) else kind for kind in wanted]
    return [action for action in result if any(f"{action.kind}.".startswith(f"{kind}.") for kind in kinds)]


def _quick(document: Document, range: types.Range) -> Iterator[types.CodeAction]:
    for found in document.analysis.diagnostics:
        place = document.text.range(span_here(document, found))
        if place.end.line < range.start.line or place.start.line > range.end.line or found.span.file != document.file:
            continue
        for fix in _fixes(document, found):
            yield types.CodeAction(
                fix.title[0].upper() + fix.title[1:],
                kind=types.CodeActionKind.QuickFix.value,
                is_preferred=fix is found.fix or None,
                edit=edit(document, [(fix.span, fix.replacement)]),
            )


def _fixes(document: Document, found: Diagnostic) -> Iterator[Fix]:
    if found.fix is not None and found.fix.span.file == document.file:
        yield found.fix
    if found.code == "expect-not-met":
        yield from _taken_over(document, found)
    if found.severity == "warning":
        yield _silenced(document, found)


def _taken_over(document: Document, found: Diagnostic) -> Iterator[Fix]:
    """Yield a fix that sets the figure, or the bound, of `expect` to the measured figure."""
    trace = document.analysis.trace
    assert trace is not None
    name = found.path.rpartition(".")[2]
    figure = figures(trace.spec, trace.graph())[name]
    budget = trace.spec.expect[name]
    bounds = trace.spec.sections.get(f"expect.{name}")
    is_over = isinstance(figure, int) and budget.maximum is not None and figure > budget.maximum
    key = None if budget.exact is not None else "max" if is_over else "min"
    span = found.span if bounds is None else bounds.of(key)
    text = f"[{', '.join(map(str, figure))}]" if isinstance(figure, tuple) else str(figure)
    if span.file == document.file:
        yield Fix(span, text, f"set expect.{name}{'.' + key if key else ''} to {text}, which it is")


def _silenced(document: Document, found: Diagnostic) -> Fix:
    """Return a comment that silences a warning on its line, or a further code for the comment that is there."""
    number = found.span.line
    line = document.text.line(number)
    match = next((match for match in IGNORE.finditer(line) if not match[1]), None)
    column = len(line) + 1 if match is None else match.end(2) + 1
    text = f"  # cnnspec: ignore[{found.code}]" if match is None else f", {found.code}"
    return Fix(Span(document.file, number, column, number, column), text, f"ignore {found.code} on this line")


def _fix_all(document: Document) -> Iterator[types.CodeAction]:
    """Yield an action with every fix that `validate --fix` would apply in its first round."""
    text, count = mend(document.text.text, document.file, document.analysis.diagnostics)
    if count:
        change = types.TextEdit(document.text.whole, text)
        title = f"Fix all {count} that cnnspec can" if count > 1 else "Fix all that cnnspec can"
        yield types.CodeAction(title, kind=FIX_ALL, edit=types.WorkspaceEdit({document.uri: [change]}))


def layout(document: Document) -> list[types.TextEdit]:
    """Return one edit that brings a text into canonical layout; none if it has that, or cannot be read."""
    try:
        text = formatted(document.text.text, document.file)
    except SpecError:
        return []
    return [] if text == document.text.text else [types.TextEdit(document.text.whole, text)]


def edit(document: Document, changes: list[tuple[Span, str]]) -> types.WorkspaceEdit:
    """Return a workspace edit that replaces spans of a document."""
    edits = [types.TextEdit(document.text.range(span), text) for span, text in changes]
    return types.WorkspaceEdit({document.uri: edits})
