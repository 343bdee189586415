"""Images in memory or in a file, of which some are selected by index."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Selected rows of an array in a file, by index: they are read on request, never all at once.

    The file is memory-mapped, so that the system caches as much of it as fits. `key` identifies the content.
    """

    array: Array
    numbers: Array
    key: str

    @classmethod
    def all(cls, array: Array, key: str) -> Self:
        """Select all rows of an array."""
        return cls(array, np.arange(len(array)), key)

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
        return np.asarray(self.array[self.numbers[rows]])

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
    array, numbers = (pixels.array, pixels.numbers[rows]) if isinstance(pixels, FileRows) else (pixels, rows)
    # mode="clip" spares the copy that NumPy makes to be able to raise.
    np.take(array, numbers, axis=0, out=out, mode="clip")
