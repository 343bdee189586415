"""What verbs print: on streams that may be closed or know few letters, and with nothing in it that steers terminals."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnnspec.diagnostics import loggable

if TYPE_CHECKING:
    from rich.console import Console

CLOSED = 141  # 128 + SIGPIPE: what a program ends with that is stopped because nobody reads its output


def complain(message: str, help: str | None = None) -> None:
    """Print an error and its cure to standard error."""
    print(f"cnnspec: error: {visible(message)}", file=sys.stderr)
    if help:
        print(f"help: {visible(help)}", file=sys.stderr)


def note(message: str) -> None:
    """Print what is worth knowing to standard error."""
    print(f"cnnspec: note: {visible(message)}", file=sys.stderr)


def visible(text: str) -> str:
    """A text of one line or more in which control characters are shown escaped."""
    return "\n".join(map(loggable, text.split("\n")))


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console for tables, which takes names as they are: brackets are no markup, and colons no emoji."""
    from rich.console import Console  # which verbs without tables do not load

    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


class Stream(io.FileIO):
    """A file descriptor that output is written to until that fails; from there on output goes nowhere.

    Whoever reads the output may leave at any time: that ends neither a training nor a verdict.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, wait where the other side is slow, or keep the first error."""
        while self.lost is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = error
            else:
                if written is not None:
                    return written
                select.select([], [self], [])  # the other side has made the pipe one that does not wait
        return len(data)


@contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Standard output and error that stay usable where nobody reads them; yields that of standard output.

    Letters that their encoding lacks are written as escapes. Standard streams that were closed lead nowhere.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    before, streams = (sys.stdout, sys.stderr), (Stream(1), Stream(2))
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(stream),
            encoding=old.encoding if old is not None else "utf-8",
            errors="backslashreplace",
            line_buffering=number == 2 or stream.isatty(),
        )
        for number, (stream, old) in enumerate(zip(streams, before, strict=True), 1)
    )
    try:
        yield streams[0]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def status_of(stream: Stream, status: int, failed: int) -> int:
    """The exit status of a program, where its output may have been cut off; other faults than that go before."""
    if stream.lost is None:
        return status
    if isinstance(stream.lost, BrokenPipeError):
        return status or CLOSED
    complain(f"cannot write the output: {stream.lost.strerror}", "name another file, or make room")
    return status or failed
