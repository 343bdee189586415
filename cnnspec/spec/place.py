"""Where something was written, for stages that do not see the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnspec.diagnostics import Related, Span


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mapping was written: its own span, those of its keys and values, and where its block was used."""

    span: Span
    keys: Mapping[str, Span] = field(default_factory=dict)
    values: Mapping[str, Span] = field(default_factory=dict)
    path: str = ""
    uses: tuple[Related, ...] = ()

    def of(self, key: str | None) -> Span:
        """The span of a key's value, or of the whole mapping where it does not have that key."""
        return self.values.get(key, self.span) if key else self.span
