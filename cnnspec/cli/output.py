"""The output of verbs: streams may be closed or have a limited encoding, and control characters are escaped."""

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

CLOSED = 141  # 128 + SIGPIPE: exit code of a program whose output nobody reads


def complain(message: str, help: str | None = None) -> None:
    """Print an error and its cure to standard error."""
    print(f"cnnspec: error: {visible(message)}", file=sys.stderr)
    if help:
        print(f"help: {visible(help)}", file=sys.stderr)


def note(message: str) -> None:
    """Print a note to standard error."""
    print(f"cnnspec: note: {visible(message)}", file=sys.stderr)


def visible(text: str) -> str:
    """Return a text, of one line or more, with control characters escaped."""
    return "\n".join(map(loggable, text.split("\n")))


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console for tables that prints names unchanged: brackets are no markup, and colons no emoji."""
    from rich.console import Console  # imported here, because verbs without tables do not need it

    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


class Stream(io.FileIO):
    """A file descriptor for output; after the first write that fails, all further output is discarded.

    The reader of the output may leave at any time: that must not end a training or change an exit code.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write data, waiting for a slow reader; keep the first error, and discard all data after it."""
        while self.lost is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = error
            else:
                if written is not None:
                    return written
                select.select([], [self], [])  # the reader has made the pipe non-blocking
        return len(data)


@contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Replace standard output and error by streams that survive the end of their reader; yield the output stream.

    Characters that the encoding lacks are written as escapes. Output to closed standard streams is discarded.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
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
    """Return the exit status of a program whose output may have been cut off; a status other than 0 stays."""
    if stream.lost is None:
        return status
    if isinstance(stream.lost, BrokenPipeError):
        return status or CLOSED
    complain(f"cannot write the output: {stream.lost.strerror}", "name another file, or make room")
    return status or failed
