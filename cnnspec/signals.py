"""Signals by which a terminal or a machine asks a program to end, and the exception that they become."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Interruption(BaseException):
    """A signal ends the training, the sweep or the test.

    Like KeyboardInterrupt it is no Exception: a signal comes anywhere, and no handler of errors may take it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def handling(handle: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handle` on SIGINT, SIGTERM and SIGHUP; one that is ignored, as SIGHUP under `nohup`, stays ignored."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminal_unheard() -> Iterator[None]:
    """Keep a terminal's signals from threads and processes that start meanwhile; this thread gets them at the end.

    A terminal sends Ctrl-C to all programs that run in it, and only one of them is to end the others.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Ending:
    """Whether a signal has asked this program to end. A second one ends it at once.

    The first one raises nothing where it comes, which may be in code of a library that would leave a lock taken.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal, as its handler."""
        if self.number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number

    def check(self) -> None:
        """Raise Interruption if a signal has come."""
        if self.number is not None:
            raise Interruption(self.number)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise Interruption, as a handler of signals."""
    raise Interruption(number)
