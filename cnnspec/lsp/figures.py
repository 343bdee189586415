"""The figures for each place of a spec: output shape, parameters and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cnnspec.diagnostics import Span
from cnnspec.graph import Trace
from cnnspec.shapes import Shape, text
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry

PREFIXES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one entry of `layers` and everything in it; a place in a block has one for each use."""

    name: str
    entry: Entry
    shape: Shape | None  # None after an error
    params: int
    macs: int

    def __str__(self) -> str:
        parts = [text(self.shape) if self.shape is not None else "?"]
        parts += [f"{self.params:,} params"] if self.params else []
        parts += [f"{short(self.macs)} MACs"] if self.macs else []
        return ", ".join(parts)


def short(number: int) -> str:
    """Return a number with at most four characters: 118M for 118,013,952."""
    for size, prefix in PREFIXES:
        if number >= size:
            value = number / size
            return f"{value:.0f}{prefix}" if value >= 100 else f"{value:.3g}{prefix}"
    return str(number)


def figures(trace: Trace) -> dict[Span, list[Figures]]:
    """Return the figures of every entry by its place, in the order of layers; those of a repeated block are totals."""
    params: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    for node in trace.nodes:
        for name in _around(node.name):
            params[name] += node.parameter_count
            macs[name] += node.macs
    result: dict[Span, list[Figures]] = {}
    for entry in _entries(trace.spec.layers):
        shape = trace.shapes.get(trace.values.get(entry.name, entry.name))
        known = Figures(entry.name, entry, shape, params[entry.name], macs[entry.name])
        result.setdefault(entry.place.span, []).append(known)
    return result


def _around(name: str) -> Iterator[str]:
    """Yield the names of the blocks around a layer, from the outermost on, and its own name."""
    dot = name.find(".")
    while dot >= 0:
        yield name[:dot]
        dot = name.find(".", dot + 1)
    yield name


def _entries(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield all entries, each before those in it; of a repeated block only the last one, which has the block's name."""
    for position, entry in enumerate(entries):
        following = entries[position + 1].place if position + 1 < len(entries) else None
        if following is None or (following.span, following.path) != (entry.place.span, entry.place.path):
            yield entry
        for inner in _inside(entry):
            yield from _entries(inner)


def _inside(entry: Entry) -> Iterable[Sequence[Entry]]:
    match entry:
        case ResidualEntry() | BlockEntry():
            return [entry.body]
        case ParallelEntry():
            return entry.branches
        case LayerEntry():
            return []
