"""Arrays that several processes read and write."""

from __future__ import annotations

import errno
from math import prod
from mmap import mmap
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


def shared(shape: Shape, dtype: Any = np.uint8, fill: float = 0) -> Array:
    """Make an array, filled with one number, whose memory this process shares with all processes that it forks later.

    It begins at the start of a page. On systems without fork it is an ordinary array. MemoryError if the system has no
    room for it.
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
