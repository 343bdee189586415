"""Durations as people read them."""

from __future__ import annotations

from math import isfinite


def duration_text(seconds: float) -> str:
    """Write seconds as `5.4 s`, `3 min 20 s` or `2 h 5 min`; a log that was damaged may say infinity, which is `?`."""
    if not isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
