"""Reads arrays of numbers from MATLAB's files of version 5, a part at a time, without trusting declared lengths.

Source: The MathWorks, "MAT-File Format" (2019), chapter 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import DataError
from cnnspec.shapes import Shape

TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, PACKED = 14, 15  # types of elements: an array, and a compressed element
NUMERIC = range(6, 16)  # classes of arrays
COMPLEX = 0x800  # flag of an array of complex numbers
HEADER, TAG = 128, 8  # bytes
PART = 1 << 16  # bytes of a compressed element that are read at a time
MOST_AXES, MOST_NAME = 32, 64
AGAIN = "fetch or save the file again, in version 5 to 7 (save -v7)"


@dataclass(slots=True)
class Numbers:
    """An array in a file: its shape, whose first axis varies fastest, the type of its numbers, and a stream of them."""

    shape: Shape
    dtype: np.dtype[Any]
    stream: _Stream | BytesIO


@dataclass(slots=True)
class _Stream:
    """The content of one element of the file, decompressed if necessary."""

    file: BufferedReader
    left: int
    pack: Any = None
    waiting: bytes = field(default=b"")

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer at the end."""
        if self.pack is None:
            content = self.file.read(min(count, self.left))
            self.left -= len(content)
            return content
        parts = []
        while count and not self.pack.eof:
            if not self.waiting:
                self.waiting = self.file.read(min(PART, self.left))
                self.left -= len(self.waiting)
                if not self.waiting:
                    break
            parts.append(self.pack.decompress(self.waiting, count))
            self.waiting = self.pack.unconsumed_tail
            count -= len(parts[-1])
        return b"".join(parts)


@contextmanager
def numbers_in(path: Path, name: str) -> Iterator[Numbers]:
    """Open the array of that name for reading; DataError if there is none, or if it does not hold numbers."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
            order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
            if order is None or header[:8] == b"\x89HDF\r\n\x1a\n":
                raise DataError(f"{path}: expected a MATLAB file of version 5 to 7", AGAIN)
            yield _found(path, file, order, name)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}", AGAIN) from error


def part_of(path: Path, found: Numbers, count: int) -> bytes:
    """Return the next `count` bytes of an array; DataError if there are fewer."""
    return _read_exactly(path, found.stream, count)


def _found(path: Path, file: BufferedReader, order: str, name: str) -> Numbers:
    names = []
    while len(tag := file.read(TAG)) == TAG:
        kind, size = np.frombuffer(tag, f"{order}u4").tolist()
        end = file.tell() + size
        stream = _Stream(file, size, zlib.decompressobj() if kind == PACKED else None)
        if kind == PACKED:
            kind, _ = np.frombuffer(_read_exactly(path, stream, TAG), f"{order}u4").tolist()
        if kind == MATRIX:
            flags = np.frombuffer(_element(path, stream, order, 8), f"{order}u4")
            shape = tuple(np.frombuffer(_element(path, stream, order, 4 * MOST_AXES), f"{order}i4").tolist())
            names.append(_element(path, stream, order, MOST_NAME).decode("latin-1"))
            if names[-1] == name:
                kind, length, content = _start(path, stream, order)
                if int(flags[0]) & 0xFF not in NUMERIC or int(flags[0]) & COMPLEX or kind not in TYPES:
                    raise DataError(f"{path}: {name}: expected an array of real numbers", AGAIN)
                dtype = np.dtype(order + TYPES[kind])
                if min(shape, default=0) < 0 or length != prod(shape) * dtype.itemsize:
                    raise DataError(f"{path}: {name}: expected {shape} numbers, got {length:,} bytes", AGAIN)
                return Numbers(shape, dtype, BytesIO(content) if content else stream)
        file.seek(end)
    raise DataError(f"{path}: expected an array {name}, got {', '.join(names[:12]) or 'none'}", AGAIN)


def _start(path: Path, stream: _Stream, order: str) -> tuple[int, int, bytes]:
    """Read the tag of the next element: its type, its length, and its content if that is within the tag."""
    tag = _read_exactly(path, stream, TAG)
    kind, length = np.frombuffer(tag, f"{order}u4").tolist()
    if kind >> 16:  # a length of at most 4 in the upper half
        return kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)]
    return kind, length, b""


def _element(path: Path, stream: _Stream, order: str, most: int) -> bytes:
    """Read the content of the next element, which is padded to a multiple of 8 bytes."""
    _, length, content = _start(path, stream, order)
    if length > most:
        raise DataError(f"{path}: is damaged, an element has {length:,} bytes", AGAIN)
    return content or _read_exactly(path, stream, -(-length // 8) * 8)[:length]


def _read_exactly(path: Path, stream: _Stream | BytesIO, count: int) -> bytes:
    try:
        content = stream.read(count)
    except (OSError, zlib.error) as error:  # whoever writes it elsewhere meanwhile has errors of its own
        raise DataError(f"{path}: cannot be read: {error}", AGAIN) from error
    if len(content) != count:
        raise DataError(f"{path}: truncated", AGAIN)
    return content
