"""Run the command line, which sends itself signals at counted moments: the same ones however fast the machine is.

    python -m tests.train.signalled SIGNAL CHECKPOINTS CALLS WORDS...

A moment is a number of calls and returns of functions since the last checkpoint was written so many times; CALLS may
be several such numbers, with commas between them. A step of a small network has about a thousand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cnnspec.cli import main
from cnnspec.train.checkpoint import LAST

ROOT = Path(__file__).parents[2]


def signalled(number: int, checkpoints: int, calls: Sequence[int], *words: str) -> tuple[int, str]:
    """Run `train` on one thread with signals at such moments; its status and what it wrote to standard error."""
    moments = [str(number), str(checkpoints), ",".join(map(str, calls))]
    command = [sys.executable, "-m", "tests.train.signalled", *moments, "train", *words, "--quiet", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


class Moments:
    """Counts checkpoints by the renames of their files, and then the events that a profiler sees."""

    def __init__(self, number: int, checkpoints: int, calls: list[int]) -> None:
        self.number, self.checkpoints, self.moments = number, checkpoints, set(calls)
        self.calls = 0

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a checkpoint that gets its name."""
        if event == "os.rename" and str(arguments[1]).endswith(LAST):
            self.checkpoints -= 1

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Count a call or a return, and send the signal if it is time."""
        if self.checkpoints <= 0:
            self.calls += 1
            if self.calls in self.moments:
                os.kill(os.getpid(), self.number)


if __name__ == "__main__":
    number, checkpoints, calls, *words = sys.argv[1:]
    moments = Moments(int(number), int(checkpoints), [int(call) for call in calls.split(",")])
    # The tests may run under nohup or in the background of a shell, where signals are ignored; children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.addaudithook(moments.audit)
    sys.setprofile(moments.profile)
    sys.exit(main(words))
