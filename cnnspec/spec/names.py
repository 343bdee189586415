"""The names of layers, and the resolution of references to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cnnspec.diagnostics import Span
from cnnspec.spec.arriving import Arrival

INPUT = "input"
ABOVE = ""  # stands for the entry above as an input, because that may have no name


@dataclass
class LayerNames:
    """The names of layers in one scope under a prefix, the shape that enters it and the shape after the last layer."""

    arrived: Arrival
    prefix: str = ""
    ids: dict[str, Span | None] = field(default_factory=dict)  # local name; None where it was generated
    outer: LayerNames | None = None
    counts: Counter[str] = field(default_factory=Counter)
    below: dict[str, Span] = field(default_factory=dict)  # the ids of the whole scope, also of entries not read yet
    above: Arrival = field(init=False)  # the output of the last entry so far

    def __post_init__(self) -> None:
        """Start with the entering shape as the shape above the first layer."""
        self.above = self.arrived

    def generated(self, kind: str) -> str:
        """Return the next free name for a type of layer, such as conv2d_2."""
        self.counts[kind] += 1
        while f"{kind}_{self.counts[kind]}" in self.ids:
            self.counts[kind] += 1
        local = f"{kind}_{self.counts[kind]}"
        self.ids[local] = None
        return local

    def resolve(self, word: str) -> str | None:
        """Return the full name that a reference means, searched from this scope outwards; None if it is unknown."""
        if word == INPUT:
            return INPUT
        head = word.partition(".")[0]
        if word in self.ids or head in self.ids:
            return self.prefix + word
        return self.outer.resolve(word) if self.outer else None

    def find_below(self, word: str) -> Span | None:
        """Return the place of an id that is only given below, in this scope or one around it; else None."""
        if word in self.below and word not in self.ids:
            return self.below[word]
        return self.outer.find_below(word) if self.outer else None

    def known(self) -> list[str]:
        """Return all names that a reference could mean in this scope."""
        return [INPUT, *self.ids, *(self.outer.known() if self.outer else [])]
