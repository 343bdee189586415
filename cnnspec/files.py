"""Files that are read within a size limit, and written completely or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def read_bounded(path: str | Path, most: int) -> bytes:
    """Return the content of a file of at most `most` bytes; OSError, before a byte is read, for a longer one.

    Pipes and devices are refused, because they might never end, and so is a file that changes while it is read.
    """
    state = os.stat(path)
    _require_file(path, state.st_mode)
    if state.st_size > most:
        raise OSError(errno.EFBIG, f"expected at most {most:,} bytes, got {state.st_size:,}", str(path))
    with open_at_once(path) as file:
        before = os.fstat(file.fileno())
        content = file.read(min(most, before.st_size) + 1) or b""  # this bounds the memory
        after = os.fstat(file.fileno())
    if len(content) > most:
        raise OSError(errno.EFBIG, f"expected at most {most:,} bytes, got more", str(path))
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.EAGAIN, "it was changed while it was read", str(path))
    return content


def open_at_once(path: str | Path) -> BinaryIO:
    """Open a file to read it; neither that nor reading ever waits.

    The system has files, such as /proc/kmsg, that look like others and wait for content as a pipe does.
    """
    return open(path, "rb", opener=_without_waiting)


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def require_file(path: Path) -> None:
    """Raise OSError if a path leads to something that is no file, such as a folder, a pipe or a device."""
    if path.exists():
        _require_file(path, path.stat().st_mode)


def _require_file(path: str | Path, mode: int) -> None:
    """Raise OSError for a folder, a pipe, a socket or a device."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def user_path(name: str) -> Path:
    """Return a path with ~ or ~NAME replaced by the home folder; unchanged if there is none."""
    return Path(os.path.expanduser(name))  # Path.expanduser would raise for an unknown name


def real_path(path: str | Path) -> Path:
    """Return the absolute path without links; links that lead in a circle stay, and reading them fails."""
    return Path(os.path.realpath(path))  # Path.resolve would raise for such links


def reason(error: Exception) -> str:
    """Return why a file cannot be read, without its name and the system's error number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of another one when it is complete; after an OSError the old one stays.

    What is there and no file, such as a folder or a device, is refused.
    """
    require_file(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def rewriting(path: Path) -> Iterator[BinaryIO]:
    """Open a user's file to be written completely or not at all, through a link; after an OSError it is unchanged.

    It keeps its mode. A file with several names (hard links) is written in place, so that the names stay one file, and
    so are pipes and devices, such as /dev/stdout; a pipe that nobody reads is refused, not waited for.
    """
    state = path.stat() if path.exists() else None
    if state is not None and not stat.S_ISREG(state.st_mode):
        with _stream(path) as file:
            yield file
        return
    if state is not None and state.st_nlink > 1:
        with path.open("wb") as file:
            yield file
        return
    with replacing(real_path(path)) as file:
        yield file
        if state is not None:
            os.chmod(file.name, stat.S_IMODE(state.st_mode))


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """Open a pipe or a device to write into it; OSError for a pipe that nobody reads."""
    try:
        with open(path, "wb", opener=_without_waiting) as file:
            if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                os.set_blocking(file.fileno(), True)
            yield file
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a pipe that nobody reads", str(path)) from error
        raise


def rewrite(path: Path, content: bytes) -> None:
    """Write a user's file as `rewriting` does."""
    with rewriting(path) as file:
        file.write(content)
