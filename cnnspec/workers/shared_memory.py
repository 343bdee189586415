"""Memory that several processes write and read."""

from __future__ import annotations

import errno
from math import prod
from mmap import mmap
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


def shared(shape: Shape, dtype: Any = np.uint8, fill: float = 0) -> Array:
    """Make an array full of one number that a process and all that it forks afterwards see as the same memory.

    It begins at the start of a page. Where processes do not fork, it is an ordinary array. MemoryError where the system
    has no room for it.
    """
    count = prod(shape)
    size = max(1, count * np.dtype(dtype).itemsize)
    try:
        pages = mmap(-1, size)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(f"no room for {size:,} bytes that processes share") from error
    array = np.frombuffer(pages, dtype, count).reshape(shape)
    if fill:
        array.fill(fill)
    return array
