"""Long lists as people read them: the first few names, and a sign that there are more."""

from __future__ import annotations

from collections.abc import Sequence


def first_names(names: Sequence[object], most: int) -> str:
    """Write names as `a, b, c`, and at most the first `most` of many as `a, b, c, ...`."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def first_and_more(names: Sequence[object], most: int) -> str:
    """Write names as `a, b, c`, and at most the first `most` of many as `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
