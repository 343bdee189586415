"""Memory that several processes write and read."""

from __future__ import annotations

from math import prod
from mmap import mmap
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


def shared(shape: Shape, dtype: Any = np.uint8, fill: float = 0) -> Array:
    """Make an array full of one number that a process and all that it forks afterwards see as the same memory.

    It begins at the start of a page. Where processes do not fork, it is an ordinary array.
    """
    count = prod(shape)
    pages = mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    array = np.frombuffer(pages, dtype, count).reshape(shape)
    if fill:
        array.fill(fill)
    return array
