"""Settings that apply to all entries of a list: the period and rate of training, and tied parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cnnspec.period import Period
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry


def every(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield all entries, each before the entries inside it."""
    for entry in entries:
        yield entry
        match entry:
            case ResidualEntry() | BlockEntry():
                yield from every(entry.body)
            case ParallelEntry():
                for branch in entry.branches:
                    yield from every(branch)


def trained(entry: Entry, period: Period, factor: float) -> Entry:
    """Return the entry with a training period and a factor of the learning rate applied to all layers in it."""

    def all_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple(trained(inner, period, factor) for inner in entries)

    match entry:
        case LayerEntry():
            within, rate = entry.period.within(period), entry.rate_factor * factor
            return entry if entry.share else replace(entry, period=within, rate_factor=rate)
        case BlockEntry():
            return replace(entry, body=all_of(entry.body))
        case ResidualEntry():
            within, rate = entry.period.within(period), entry.rate_factor * factor
            return replace(entry, body=all_of(entry.body), period=within, rate_factor=rate)
        case ParallelEntry():
            return replace(entry, branches=tuple(map(all_of, entry.branches)))


def tied(entry: Entry, prefix: str, owner: str) -> Entry:
    """Return the entry with every layer in it tied to the layer of the same name under the prefix `owner`."""
    name = owner + entry.name.removeprefix(prefix)
    match entry:
        case LayerEntry(share=None):
            return replace(entry, share=name, as_block=True)
        case LayerEntry():
            inside = entry.share is not None and entry.share.startswith(f"{prefix}.")
            return replace(entry, share=owner + entry.share.removeprefix(prefix)) if inside and entry.share else entry
        case BlockEntry():
            return replace(entry, body=_tied(entry.body, prefix, owner))
        case ResidualEntry():
            return replace(entry, body=_tied(entry.body, prefix, owner), share=name)
        case ParallelEntry():
            return replace(entry, branches=tuple(_tied(branch, prefix, owner) for branch in entry.branches))


def _tied(entries: tuple[Entry, ...], prefix: str, owner: str) -> tuple[Entry, ...]:
    return tuple(tied(entry, prefix, owner) for entry in entries)
