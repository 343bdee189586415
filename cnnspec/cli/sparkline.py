"""Numbers as a line of small blocks, for terminals."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], most: int, low: float | None = None, high: float | None = None) -> str:
    """Return up to `most` blocks of eight heights, scaled from the lowest to the highest value, or `low` to `high`.

    Of more values an even selection is shown. The text is empty if the output's encoding has no blocks.
    """
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return ""
    places = [round(i * (len(values) - 1) / max(1, most - 1)) for i in range(most)]
    chosen = [values[place] for place in places] if len(values) > most else list(values)
    low = min(chosen, default=0.0) if low is None else low
    high = max(chosen, default=0.0) if high is None else high
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in chosen)
