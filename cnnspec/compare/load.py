"""The share of the machine that other programs use, which tells how reliable a measurement is."""

from __future__ import annotations

import time
from pathlib import Path

STATISTICS = Path("/proc/stat")
BUSY = 0.1  # load by other programs at which ratios on several threads are not reliable


def others_share(seconds: float = 0.5) -> float | None:
    """Return the share of all processors in use while this process sleeps; None if the system does not tell."""
    if not STATISTICS.exists():
        return None
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    total, idle = (last - first for first, last in zip(before, after, strict=True))
    return 1 - idle / total if total else None


def _ticks() -> tuple[int, int]:
    """Return the ticks of all processors since the start of the machine, and those in which they were idle."""
    fields = [int(field) for field in STATISTICS.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]  # idle, and waiting for disks
