"""The kinds of workers that this system has, and tasks that fail."""

from __future__ import annotations

import pytest

from cnnspec.workers import Processes, Step, Threads, Workers

FORKS = Processes.supported()
KINDS: list[type[Workers]] = [Threads, *([Processes] if FORKS else [])]
FORKED = pytest.mark.skipif(not FORKS, reason="workers are threads on this system")


def raising(error: BaseException) -> Step:
    """A task that raises an error."""

    def step() -> None:
        raise error

    return step
