"""A lock between processes, which the system releases at the latest when its holder ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RETRY = 0.1  # seconds between attempts on systems without a waiting call


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, which is created if it is missing.

    If another process holds it, wait for it, or raise BlockingIOError.
    """
    file = _open(path)
    try:
        while not _take(file, wait):
            time.sleep(RETRY)
        yield
    finally:
        os.close(file)


if sys.platform == "win32":
    import msvcrt

    def _open(path: Path) -> int:
        return os.open(path / ".lock" if path.is_dir() else path, os.O_RDWR | os.O_CREAT)

    def _take(file: int, wait: bool) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if wait:
                return False
            raise BlockingIOError(error.errno, "locked by another process") from error
        return True

else:

    def _open(path: Path) -> int:
        return os.open(path, os.O_RDONLY) if path.is_dir() else os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def _take(file: int, wait: bool) -> bool:
        try:
            import fcntl  # WebAssembly lacks it, and has only one process
        except ImportError:
            return True
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
