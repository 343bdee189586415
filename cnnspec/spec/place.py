"""Where a value was written, for stages that do not see the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cnnspec.diagnostics import Related, Span

NOWHERE: Mapping[str, Span] = {}


class Place(NamedTuple):
    """Where a mapping was written: its span, the spans of its keys and values, and where its block was used."""

    span: Span
    keys: Mapping[str, Span] = NOWHERE
    values: Mapping[str, Span] = NOWHERE
    path: str = ""
    uses: tuple[Related, ...] = ()

    def of(self, key: str | None) -> Span:
        """Return the span of a key's value, or that of the whole mapping if it lacks the key."""
        return self.values.get(key, self.span) if key else self.span
