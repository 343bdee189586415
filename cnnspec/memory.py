"""The memory that is available, checked before large amounts are requested."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnnspec.diagnostics import DataError, RunError

CGROUPS = (  # files with limit and use of a container's control group, in both versions
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes() -> int | None:
    """Return the least of the bytes that machine, container and limits leave this process; None if unknown."""
    return min(_bounds(), default=None)


def require_memory(needed: int, subject: str, help: str, error: type[DataError | RunError] = RunError) -> None:
    """Raise an error with the needed and the available amount if `needed` bytes exceed the available memory."""
    available = available_bytes()
    if available is not None and needed > available:
        raise error(f"{subject} needs {bytes_text(needed)} of memory, {bytes_text(available)} is there", help)


def bytes_text(count: int) -> str:
    """Return a number of bytes with its unit: `1.5 MiB` for 1572864."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _bounds() -> Iterator[int]:
    system = _system_bytes()
    if system is not None:
        yield system
    for limit, used in CGROUPS:
        bound, occupied = _number(limit), _number(used)
        if bound is not None and occupied is not None:
            yield max(0, bound - occupied)
    yield from _process_bounds()


def _system_bytes() -> int | None:
    """Return the memory that is available without swapping; all of the machine's memory if that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _process_bounds() -> Iterator[int]:
    """Yield what the limit of the address space (`ulimit -v`) leaves, if there is one."""
    try:
        import resource  # Windows lacks it
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        used = 0
    if limit != resource.RLIM_INFINITY:
        yield max(0, limit - used)


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # the file says `max` where there is no limit
        return None
