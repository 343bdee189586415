"""Where something was written, for stages that do not see the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cnnspec.diagnostics import Related, Span

NOWHERE: Mapping[str, Span] = {}


class Place(NamedTuple):
    """Where a mapping was written: its own span, those of its keys and values, and where its block was used."""

    span: Span
    keys: Mapping[str, Span] = NOWHERE
    values: Mapping[str, Span] = NOWHERE
    path: str = ""
    uses: tuple[Related, ...] = ()

    def of(self, key: str | None) -> Span:
        """The span of a key's value, or of the whole mapping where it does not have that key."""
        return self.values.get(key, self.span) if key else self.span
