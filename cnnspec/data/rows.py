"""Images that lie in memory or in a file, of which some are taken by their numbers."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Rows of an array in a file, by their numbers: read when they are asked for, never all at once.

    The file is mapped, so that the system keeps in its cache what there is room for. `key` names what is in it.
    """

    array: Array
    numbers: Array
    key: str

    @classmethod
    def all(cls, array: Array, key: str) -> Self:
        """All rows of an array."""
        return cls(array, np.arange(len(array)), key)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), as an array has it."""
        return (len(self.numbers), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> Array:
        """The chosen rows, in memory."""
        return np.asarray(self.array[self.numbers[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All rows, in memory."""
        return np.asarray(self[:], dtype)


Pixels = Array | FileRows


def blocks(array: Array, count: int) -> Iterator[Array]:
    """The rows of an array, so many at a time; of one in a file what was read is left to the system's cache."""
    mapped, given_back = getattr(array, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)
    for start in range(0, len(array), count):
        yield array[start : start + count]
        if mapped is not None and given_back is not None:
            mapped.madvise(given_back)


def in_one(pixels: Pixels) -> Array:
    """All rows in their order, still in their file if they lie there."""
    return pixels.array if isinstance(pixels, FileRows) else pixels


def chosen(pixels: Pixels, rows: Array) -> Pixels:
    """Some of the images: a copy of those in memory, the numbers of those in a file."""
    return replace(pixels, numbers=pixels.numbers[rows]) if isinstance(pixels, FileRows) else pixels[rows]


def take(pixels: Pixels, rows: Array, out: Array) -> None:
    """Copy images to `out`; their numbers are known to be good."""
    array, numbers = (pixels.array, pixels.numbers[rows]) if isinstance(pixels, FileRows) else (pixels, rows)
    # mode="clip" spares the copy that NumPy makes to be able to raise.
    np.take(array, numbers, axis=0, out=out, mode="clip")
