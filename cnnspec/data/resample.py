"""Resampling: every output pixel is interpolated at a position between the source's pixels."""

from __future__ import annotations

import math
import threading

import numpy as np

from cnnspec.kernels.step import Array

BITS = 4  # bits of a fraction: products of two, and sums over bytes, fit 16 bits
FINE = 1 << BITS
BYTES = np.uint32(0x00FF00FF)  # the lower byte of each half
HALVES = np.uint32(0x00010001)
WHOLE = np.float32(1 << 23)  # a float32 from here on is whole; its lower bits count from here
SLAB = 1 << 16  # pixels processed at once, so that all buffers stay in a cache


class SampleGrid:
    """Source positions of every pixel of n images (h, w): source = matrix target + offset + displacement.

    Positions are in pixels, rows first, as distances from the image's centre.
    """

    def __init__(self, n: int, h: int, w: int) -> None:
        self.shape = n, h, w
        self.matrix: Array = np.broadcast_to(np.eye(2), (n, 2, 2))
        self.offset: Array = np.zeros((n, 2))
        self.displacements: list[tuple[Array, Array]] = []

    def transform(self, matrix: Array, offset: Array | float = 0.0) -> None:
        """Compose with a map: each target becomes `matrix` (n, 2, 2) times target plus `offset` (n, 2)."""
        self.offset = self.offset + (self.matrix @ np.broadcast_to(offset, self.offset.shape)[:, :, None])[:, :, 0]
        self.matrix = self.matrix @ matrix

    def displace(self, down: Array, across: Array) -> None:
        """Add a displacement in pixels that the matrix does not turn: sum over k of down (2, n, k, h) across (k, w)."""
        self.displacements.append((down, across))

    def factors(self) -> tuple[Array, Array]:
        """Return (2, n, k, h) and (k, w), whose product over k is the source position; k = 2 for an affine map.

        Positions count in units of 1 / FINE of a pixel, from the first pixel of a border that is one pixel wide.
        """
        n, h, w = self.shape
        rows, columns = (np.arange(length) - (length - 1) / 2 for length in (h, w))
        start = self.offset.T + 1 - np.array([[rows[0]], [columns[0]]])
        size = 2 + sum(len(across) for _, across in self.displacements)
        down, across = np.empty((2, n, size, h), np.float32), np.empty((size, w), np.float32)
        down[:, :, 0] = self.matrix[:, :, 0].T[:, :, None] * rows + start[:, :, None]
        down[:, :, 1] = self.matrix[:, :, 1].T[:, :, None]
        across[:2] = np.ones(w), columns
        first = 2
        for field, over in self.displacements:
            last = first + len(over)
            down[:, :, first:last], across[first:last] = field, over
            first = last
        return down, FINE * across


def resample(pixels: Array, places: SampleGrid) -> None:
    """Interpolate every pixel (n, c, h, w) bilinearly at its source position, in place; outside is black.

    Positions are rounded to 1 / FINE of a pixel.
    """
    n, _, h, w = pixels.shape
    down, across = places.factors()
    images = max(1, SLAB // (h * w))
    for start in range(0, n, images):
        factor = down[:, start : start + images].swapaxes(2, 3)
        fine = np.matmul(factor, across, out=reused_array("fine", (*factor.shape[:3], w), np.float32))
        interpolate(pixels[start : start + images], fine)


def resample_maps(maps: Array, places: SampleGrid) -> None:
    """Replace every value of maps (n, h, w) by that of the pixel nearest to its source position; outside is 0."""
    _, h, w = maps.shape
    down, across = places.factors()
    bordered = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    for i in range(len(maps)):
        place = np.rint(down[:, i].swapaxes(1, 2) @ across / FINE)
        row, column = np.clip(place, 0, np.array([h + 1, w + 1]).reshape(2, 1, 1)).astype(np.intp)
        maps[i] = bordered[i][row, column]


def interpolate(pixels: Array, fine: Array) -> None:
    """Interpolate pixels (n, c, h, w) at rows and columns `fine` (2, n, h, w), in the units of `SampleGrid.factors`.

    Both arrays are overwritten, the first with the result. Arithmetic is in integers: each of 32 bits holds two of 16,
    for the upper and the lower row. Buffers that are not needed any more are used again.
    """
    n, c, h, w = pixels.shape
    # With a border of one pixel in front and two at the end, a clipped position needs no further check.
    height, width = h + 3, w + 3
    source = _quads(pixels, height, width)
    np.clip(fine, 0, np.array([h + 1, w + 1], np.float32).reshape(2, 1, 1, 1) * FINE, out=fine)
    np.add(fine, WHOLE, out=fine)
    integers, share = fine.view(np.uint32), reused_array("share", fine.shape, np.uint32)
    np.bitwise_and(integers, np.uint32(FINE - 1), out=share)
    np.right_shift(integers, np.uint32(BITS), out=integers)
    (row, column), (below, right) = integers, share
    np.multiply(row, np.uint32(width), out=row)
    np.add(row, column, out=row)
    excess = (int(WHOLE.view(np.uint32)) >> BITS) * (width + 1)
    first = np.arange(0, n * height * width, height * width) - excess
    np.add(row, (first % (1 << 32)).astype(np.uint32).reshape(n, 1, 1), out=row)
    place = reused_array("place", (n, h, w), np.intp)
    np.copyto(place, row)
    left = reused_array("left", (c, n, h, w), np.uint32)
    # `place` lies within the source; mode="clip" spares the copy that NumPy makes to be able to raise.
    np.take(source, place.reshape(-1), axis=1, mode="clip", out=left.reshape(c, -1))
    # Across: FINE left + share (next - left). What a difference borrows from the other half, the sum gives back.
    following = reused_array("place", (c, n, h, w), np.uint32)
    np.right_shift(left.view(np.uint16), np.uint16(8), out=following.view(np.uint16))
    np.bitwise_and(left, BYTES, out=left)
    np.subtract(following, left, out=following)
    np.multiply(following, right, out=following)
    np.left_shift(left, np.uint32(BITS), out=left)
    pair_sum = np.add(left, following, out=left)
    # Down: each half times its weight, FINE - share and share, and the sum of both in the upper half.
    np.multiply(below, np.uint32((1 << 16) - 1), out=below)
    np.add(below, np.uint32(FINE), out=below)
    np.multiply(pair_sum.view(np.uint16), below.view(np.uint16), out=pair_sum.view(np.uint16))
    np.multiply(pair_sum, HALVES, out=pair_sum)
    np.add(pair_sum, np.uint32(FINE * FINE // 2 << 16), out=pair_sum)
    np.right_shift(pair_sum, np.uint32(16 + 2 * BITS), out=pair_sum)
    np.copyto(pixels, pair_sum.transpose(1, 0, 2, 3), casting="unsafe")


def _quads(pixels: Array, height: int, width: int) -> Array:
    """Return (c, n height width) of uint32: each pixel, the next one, and the two below, one byte each."""
    n, c, _, _ = pixels.shape
    size = n * height * width
    bordered = reused_array("place", (c, n, height, width), np.uint16)
    bordered.fill(0)
    bordered[:, :, 1:-2, 1:-2] = pixels.transpose(1, 0, 2, 3)
    pairs, moved = bordered.reshape(c, size), reused_array("left", (c, size - 1), np.uint16)
    np.left_shift(pairs[:, 1:], np.uint16(8), out=moved)
    np.bitwise_or(pairs[:, :-1], moved, out=pairs[:, :-1])
    quads, lower = reused_array("quads", (c, size), np.uint32), reused_array("left", (c, size - width), np.uint32)
    np.copyto(quads, pairs)
    np.left_shift(quads[:, width:], np.uint32(16), out=lower)
    np.bitwise_or(quads[:, :-width], lower, out=quads[:, :-width])
    return quads


_memory = threading.local()


def reused_array(name: str, shape: tuple[int, ...], dtype: type) -> Array:
    """Return an array with undefined contents in a buffer that the thread reuses from call to call.

    Memory that is returned to the system each time has to be mapped again page by page, which takes longer than all the
    arithmetic here.
    """
    memory: dict[str, Array] = _memory.__dict__
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if name not in memory or memory[name].nbytes < size:
        memory[name] = np.empty(size, np.uint8)
    return memory[name][:size].view(dtype).reshape(shape)
