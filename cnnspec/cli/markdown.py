"""Text in Markdown, for comments on pull requests."""

from __future__ import annotations

from cnnspec.diagnostics.record import printable


def code(text: str) -> str:
    """Return a text as code that may stand in a table: nothing in it is a link, a mention, HTML or a cell's end."""
    content = printable(text).replace("|", "\\|").replace("`", "'")
    return f"`{content}`"
