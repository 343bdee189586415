"""What a rank has printed reaches the user only once its launcher has read it, which takes a moment."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

PASSED_ON = 5.0  # seconds that the launcher has at most for reading what a rank has printed
HOP = 0.25  # seconds for what it has read to travel to the user: several of its processes may lie between


def wait_for_launcher() -> None:
    """Wait until the launcher has read what this process has printed into its pipes.

    A launcher that is told to end all ranks drops what it has not read yet.
    """
    try:
        import fcntl
        import termios  # Windows lacks both
    except ImportError:
        time.sleep(HOP)
        return
    until = time.monotonic() + PASSED_ON
    for file in (1, 2):
        unread = bytearray(4)
        with suppress(OSError):  # it is closed
            while stat.S_ISFIFO(os.fstat(file).st_mode) and time.monotonic() < until:
                fcntl.ioctl(file, termios.FIONREAD, unread)
                if not any(unread):
                    break
                time.sleep(0.01)
    time.sleep(HOP)
