"""The parts of a map that `split` makes, with the channels of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from cnnspec.fields import PositiveInt
from cnnspec.spec.arriving import Arrival, Unknown
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.tree import Mapping, Where
from cnnspec.spec.typed import Typing

KEYS = ("type", "id", "from", "parts", "sizes")
MOST_PARTS = 1000


def channels_of_parts(item: Mapping, arrived: Arrival, findings: Findings, where: Where) -> list[dict[str, int]]:
    """Return the channels of each part in the form of `slice`; Wrong if the requested parts do not fit the map."""
    typing = Typing(findings, {})
    meant = typing.known_keys(item, KEYS, where, "key of split", "layer key")
    given = [key for key in ("parts", "sizes") if key in item.values]
    if len(given) != 1:
        if not given and meant:
            raise Wrong
        problem = "both" if given else "neither"
        help = "write parts: 2 for halves, or sizes: [16, 48] for these numbers of channels"
        message = f"split: expected parts or sizes, got {problem}"
        raise findings.error("missing-key" if not given else "invalid-value", message, item.span, where, help=help)
    (key,) = given
    tree, where = item.values[key], where.down(key)
    wanted: Any = typing.value(PositiveInt if key == "parts" else tuple[PositiveInt, ...], tree, where)
    channels = None if isinstance(arrived, Unknown) or len(arrived) != 3 else arrived[0]
    sizes = None if key == "parts" else wanted
    count = wanted if sizes is None else len(sizes)
    misfit = _misfit(key, count, sizes, channels)
    if misfit is not None:
        message, help = misfit
        raise findings.error("shape-mismatch", message, tree.span, where, help=help)
    if sizes is None:
        return [{"part": part, "of": count} for part in range(1, count + 1)]
    ends = accumulate(sizes)
    return [{"start": end - size, "stop": end} for end, size in zip(ends, sizes, strict=True)]


def _misfit(key: str, count: int, sizes: Sequence[int] | None, channels: int | None) -> tuple[str, str] | None:
    """Return the error and cure for parts that do not fit the number of channels; None if they fit."""
    if not 2 <= count <= MOST_PARTS:
        help = "one part of the channels is {type: slice, channels: {start: 0, stop: 16}}"
        return f"{key}: expected from 2 to {MOST_PARTS:,} parts, got {count}", help
    if channels is None:
        return None
    if sizes is None and channels % count:
        message = f"split: expected a number of parts that divides the {channels} channels, got {count}"
        return message, "write sizes: [...] for parts that differ"
    if sizes is not None and sum(sizes) != channels:
        message = f"split: expected sizes that add up to the {channels} channels, got {sum(sizes)}"
        return message, "to leave channels out, write {type: slice, channels: {start: 0, stop: 16}}"
    return None
