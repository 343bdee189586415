"""Static memory: every array gets an offset in one arena, and arrays that never live at once share bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.workers import shared

ALIGNMENT = 64  # bytes: a cache line, and the widest vector load


@dataclass(frozen=True, slots=True)
class Claim:
    """An array that is needed from one moment of the timeline to another, both included."""

    shape: Shape
    dtype: np.dtype[np.generic]
    first: int
    last: int

    @property
    def size(self) -> int:
        """The bytes of the array, rounded up so that the next array starts aligned."""
        return -(-prod(self.shape) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Placement:
    """The offset of each claim, in bytes from the start of the region, and the size of the region."""

    offsets: tuple[int, ...]
    size: int


def place(claims: Sequence[Claim]) -> Placement:
    """Give every claim the lowest offset that is free throughout its life, the largest first.

    Greedy by size, as in Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020).
    """
    sizes = [claim.size for claim in claims]
    offsets = [0] * len(claims)
    exact: type = np.int64 if sum(sizes) < 1 << 62 else object  # Python's integers, where a sum would overflow int64
    # A row each for first moment, last moment, start and end of what is placed, in the order of the starts.
    placed: Array = np.empty((4, len(claims)), exact)
    for count, index in enumerate(sorted(range(len(claims)), key=lambda i: (-sizes[i], i))):
        claim, size = claims[index], sizes[index]
        first, last, start, end = placed[:, :count]
        rivals = (first <= claim.last) & (claim.first <= last)
        ends = np.maximum.accumulate(np.concatenate([[0], end[rivals]]))  # the furthest end before each gap
        fits = ends[:-1] + size <= start[rivals]
        offset = offsets[index] = int(ends[fits.argmax() if fits.any() else -1])
        at = int(np.searchsorted(start, offset))
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = claim.first, claim.last, offset, offset + size
    return Placement(tuple(offsets), max(map(sum, zip(offsets, sizes, strict=True)), default=0))


@dataclass(eq=False, slots=True)
class Block:
    """Memory that plans use in turn; `user` is the plan that ran last, whose arrays are still there."""

    data: Array
    user: object = None


class ArenaPool:
    """Lend one block to all plans of a model, which never run at once; a plan that needs more gets a larger one."""

    def __init__(self) -> None:
        self._block = Block(shared((0,)))

    def take(self, size: int) -> Block:
        """Return a block of at least `size` bytes."""
        if len(self._block.data) < size:
            # a little more, for the next plan that is larger: the system gives memory when it is first touched
            self._block = Block(shared((size + size // 4,)))
        return self._block


def view(region: Array, offset: int, claim: Claim) -> Array:
    """The claim's array inside its region."""
    length = prod(claim.shape) * claim.dtype.itemsize
    return region[offset : offset + length].view(claim.dtype).reshape(claim.shape)
