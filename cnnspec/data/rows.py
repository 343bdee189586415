"""Images in memory or in a file, of which some are selected by index."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Selected rows of an array in a file, by index: they are read on request, never all at once.

    Chosen rows are read from the `file`, so that they do not count as this process's memory; the array is mapped, for
    readers of all of it. The system caches as much of the file as fits. `key` identifies the content.
    """

    array: Array
    numbers: Array
    key: str
    file: _File | None  # None if the system lacks `preadv`

    @classmethod
    def all(cls, array: np.memmap[Any, Any], key: str) -> Self:
        """Select all rows of an array."""
        readable = hasattr(os, "preadv") and array.flags.c_contiguous
        return cls(array, np.arange(len(array)), key, _File(array) if readable else None)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (n, ...) of the selected rows."""
        return (len(self.numbers), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numeric type of the rows."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> Array:
        """Return the chosen rows as an array in memory."""
        numbers = self.numbers[rows]
        found = np.empty((*numbers.shape, *self.array.shape[1:]), self.dtype)
        self.read(numbers.reshape(-1), found.reshape(-1, *self.array.shape[1:]))
        return found

    def read(self, numbers: Array, out: Array) -> None:
        """Copy the rows with these numbers in the array to `out`, which has the array's type."""
        if self.file is not None and out.flags.c_contiguous:
            self.file.read(numbers, out)
        else:
            np.take(self.array, numbers, axis=0, out=out, mode="clip")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all selected rows as an array in memory."""
        return np.asarray(self[:], dtype)


Pixels = Array | FileRows


def blocks(array: Array, count: int) -> Iterator[Array]:
    """Yield the rows of an array, `count` at a time; pages of a mapped file are given back once they are read."""
    mapped, given_back = getattr(array, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)
    for start in range(0, len(array), count):
        yield array[start : start + count]
        if mapped is not None and given_back is not None:
            mapped.madvise(given_back)


def in_one(pixels: Pixels) -> Array:
    """Return all rows in their order as one array, which is mapped if they lie in a file."""
    return pixels.array if isinstance(pixels, FileRows) else pixels


def chosen(pixels: Pixels, rows: Array) -> Pixels:
    """Return the images with these indices: a copy for images in memory, a selection for those in a file."""
    return replace(pixels, numbers=pixels.numbers[rows]) if isinstance(pixels, FileRows) else pixels[rows]


def take(pixels: Pixels, rows: Array, out: Array) -> None:
    """Copy the images with these indices to `out`; the indices must be valid."""
    if isinstance(pixels, FileRows):
        pixels.read(pixels.numbers[rows], out)
    else:
        # mode="clip" spares the copy that NumPy makes to be able to raise.
        np.take(pixels, rows, axis=0, out=out, mode="clip")


class _File:
    """Reads rows from a file in which they are contiguous; the file stays open until the object is deleted."""

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        assert array.filename is not None
        mapped = np.frombuffer(array._mmap, np.uint8)  # type: ignore[attr-defined]  # the whole file but for its start
        start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        self._path, self._row = array.filename, array[:1].nbytes
        self._place = start + array.ctypes.data - mapped.ctypes.data
        self._number = os.open(self._path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def read(self, numbers: Array, out: Array) -> None:
        """Read the rows with these numbers; consecutive ones are read together."""
        content = out.reshape(-1).view(np.uint8).data
        starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1).tolist()
        for start, stop in pairwise([*starts, len(numbers)]):
            place = self._place + int(numbers[start]) * self._row
            self._read(place, content[start * self._row : stop * self._row])

    def _read(self, place: int, content: memoryview) -> None:
        help = "put the file back as it was, and go on with --resume"
        while content:
            try:
                count = os.preadv(self._number, [content], place)
            except OSError as error:
                raise DataError(f"{self._path}: cannot be read: {error.strerror}", help) from error
            if not count:
                raise DataError(f"{self._path}: has become shorter", help)
            place, content = place + count, content[count:]
