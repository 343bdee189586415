"""The names that layers have, and what a reference to one means where it stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cnnspec.diagnostics import Span
from cnnspec.spec.arriving import Arrival

INPUT = "input"
ABOVE = ""  # among what an entry reads: whatever stands above it, which may have no name


@dataclass
class LayerNames:
    """The names that layers of one scope have, under a prefix, and the shapes that arrive in it and at its end."""

    arrived: Arrival
    prefix: str = ""
    ids: dict[str, Span | None] = field(default_factory=dict)  # local name; None where it was generated
    outer: LayerNames | None = None
    counts: Counter[str] = field(default_factory=Counter)
    below: dict[str, Span] = field(default_factory=dict)  # the ids that the file gives in this scope, read or not
    above: Arrival = field(init=False)  # what the last entry so far makes

    def __post_init__(self) -> None:
        """What arrives is what stands above the first entry."""
        self.above = self.arrived

    def generated(self, kind: str) -> str:
        """The next free name of a kind."""
        self.counts[kind] += 1
        while f"{kind}_{self.counts[kind]}" in self.ids:
            self.counts[kind] += 1
        local = f"{kind}_{self.counts[kind]}"
        self.ids[local] = None
        return local

    def resolve(self, word: str) -> str | None:
        """The full name that a reference means here, looked up inside out; None for an unknown one."""
        if word == INPUT:
            return INPUT
        head = word.partition(".")[0]
        if word in self.ids or head in self.ids:
            return self.prefix + word
        return self.outer.resolve(word) if self.outer else None

    def find_below(self, word: str) -> Span | None:
        """Where an id of this scope or of those around it is given that no layer above has."""
        if word in self.below and word not in self.ids:
            return self.below[word]
        return self.outer.find_below(word) if self.outer else None

    def known(self) -> list[str]:
        """Every name that a reference could mean here."""
        return [INPUT, *self.ids, *(self.outer.known() if self.outer else [])]
