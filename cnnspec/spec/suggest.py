"""Suggestions for a misspelt name: the nearest names, or the one with the same meaning in another framework."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from cnnspec.listing import first_names
from cnnspec.spec.words import meant

LONGEST = 60  # characters of a word that is compared with names: a longer one is no misspelt name
MOST_NAMES = 60  # names in a line of help


@lru_cache(maxsize=4096)  # a mistake is often made more than once
def distance(a: str, b: str) -> int:
    """Return the edits between two words: insertions, deletions, replacements, swaps of neighbours (Damerau 1964)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the names that are near enough to be meant, best first."""
    names = list(names)
    if len(word) > LONGEST:
        return []
    other = meant(word, names)
    if other is not None:
        return [other]
    folded = word.lower().replace("-", "_")
    # Two edits turn a word of three letters into any other: `log` is no misspelt `to`.
    reach = {name: max(2, len(name) // 3) if min(len(folded), len(name)) > 3 else 1 for name in names}
    # Words of very different lengths are far apart, and a very long one would take long.
    alike = [name for name in reach if abs(len(folded) - len(name)) <= reach[name]]
    ranked = sorted((distance(folded, name.lower()), name) for name in alike)
    # Words that share no letter are no misspelling of one another.
    return [name for edits, name in ranked if edits <= min(reach[name], max(1, len(folded) - 1, len(name) - 1))][:count]


def clearest(word: str, names: Iterable[str]) -> str | None:
    """Return the one name that is nearer than all others, and near enough to be used without asking; else None."""
    listed = list(names)
    near = nearest(word, listed, 2)
    if not near:
        return None
    if meant(word, listed) is not None:
        return near[0]
    first, *others = (distance(word.lower(), name.lower()) for name in near)
    return near[0] if first <= 2 and all(first < other for other in others) else None


def did_you_mean(word: str, names: Iterable[str], noun: str) -> str:
    """Return a line of help with the nearest names, or with all names if none is near."""
    listed = list(names)
    near = nearest(word, listed)
    return f"did you mean {' or '.join(near)}?" if near else listing(listed, noun)


def listing(listed: Sequence[str], noun: str) -> str:
    """Return a line of help with all names."""
    return f"{noun}: {first_names(listed, MOST_NAMES)}" if listed else f"there are no {noun}"


def plural(noun: str) -> str:
    """Return the plural of a noun: layers, losses."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
