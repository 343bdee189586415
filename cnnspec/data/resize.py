"""Resizes pictures by antialiased bilinear interpolation, as Pillow's `Image.Resampling.BILINEAR` does.

Each output pixel is a weighted mean of the source pixels under a triangle around its centre. The triangle reaches one
pixel to each side where pictures grow, and one output pixel where they shrink, so that no source pixel is left out.
Columns come first, rows second; each pass rounds to bytes. Pillow resizes pictures that it has decoded, NumPy resizes
arrays, to the same bits: each pass by itself, because versions of Pillow differ in the order in which they do both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FRACTION_BITS = 22  # bits of a weight, as in Pillow: byte, weight and carry fit 32 bits
BLOCK = 1 << 22  # source pixels that are resized at a time, to keep their copy as float64 small


def resize(pixels: Array, size: tuple[int, int]) -> Array:
    """Return images (n, c, h, w) of bytes resized to (n, c, *size)."""
    n, c, h, w = pixels.shape
    if (h, w) == size:
        return pixels
    down, across = _weights(h, size[0]), _weights(w, size[1]).T
    out = np.empty((n, c, *size), np.uint8)
    images = max(1, BLOCK // (c * h * w))
    for start in range(0, n, images):
        part = slice(start, start + images)
        columns = pixels[part] if w == size[1] else _rounded(pixels[part].astype(np.float64) @ across)
        out[part] = columns if h == size[0] else _rounded(down @ columns.astype(np.float64))
    return out


def resize_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """Return a picture of Pillow's, in grey or RGB, resized to height and width `size`, to the bits of `resize`."""
    from PIL.Image import Resampling

    height, width = size
    columns = picture.resize((width, picture.height), Resampling.BILINEAR)
    return columns.resize((width, height), Resampling.BILINEAR)


def _rounded(sums: Array) -> Array:
    """Round weighted sums of bytes to bytes; float64 holds the sums exactly, whatever the order of addition."""
    sums += 1 << (FRACTION_BITS - 1)
    sums *= 2.0**-FRACTION_BITS
    return sums.astype(np.uint8)  # the conversion truncates


def resampling(shape: Shape, target: Shape) -> tuple[Array, Array]:
    """Return the weights of source rows (h', h) and source columns (w', w) that resize (c, h, w) to (c, h', w').

    float64 holds these numbers, and their sums over bytes, exactly; `resize` multiplies by the columns' weights,
    rounds, multiplies by the rows' weights, and rounds again.
    """
    down, across = (_weights(shape[axis], target[axis]) * 2.0**-FRACTION_BITS for axis in (1, 2))
    return down, across


@lru_cache(maxsize=64)
def _weights(source: int, target: int) -> Array:
    """Return (target, source): the weight of each source pixel for each target pixel, in units of 2^-FRACTION_BITS.

    Pictures mostly have the same few sizes, so the arrays are cached and read-only.
    """
    scale = source / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), source)
    taps = first[:, None] + np.arange((last - first).max())  # (target, most taps)
    triangle = np.maximum(0, 1 - np.abs((taps - centres[:, None] + 0.5) * (1 / reach)))
    triangle[taps >= last[:, None]] = 0
    # Added one after the other, as Pillow does: another order rounds differently.
    triangle /= np.add.accumulate(triangle, axis=1)[:, -1:]
    weights = np.zeros((target, source))
    rows, columns = np.nonzero(triangle)
    weights[rows, taps[rows, columns]] = np.floor(triangle[rows, columns] * (1 << FRACTION_BITS) + 0.5)
    weights.flags.writeable = False
    return weights
