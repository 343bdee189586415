"""Augmentations that resample: every output pixel is read from a place between the source's pixels."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Annotated

import numpy as np

from cnnspec.data.augmentation import Augmentation
from cnnspec.fields import Angle, Fraction, PositiveNumber
from cnnspec.kernels.step import Array
from cnnspec.registry import register

BITS = 4  # of a place's fraction: products of two fractions, and their sums over bytes, fit 16 bits
FINE = 1 << BITS
LANES = np.uint32(0x00FF00FF)  # a byte in each half
CELL = 2  # pixels of an elastic field that share a random number, along each axis


@register("rotate")
class Rotate(Augmentation):
    """Turns every image about its centre by an angle up to a limit, either way; what comes in is black."""

    degrees: Annotated[Angle, "largest angle"] = 10.0

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """source = centre + R (target - centre)."""
        n, _, h, w = pixels.shape
        angle = np.deg2rad(random.uniform(-self.degrees, self.degrees, (n, 1, 1))).astype(np.float32)
        cosine, sine = np.cos(angle), np.sin(angle)
        (down, middle), (across, centre) = _from_centre(h), _from_centre(w)
        rows, columns = kept("places", (2, n, h, w), np.float32)
        np.subtract(cosine * down[:, None] + middle, sine * across, out=rows)
        np.add(sine * down[:, None], cosine * across + centre, out=columns)
        resample(pixels, rows, columns)


@register("scale")
class Scale(Augmentation):
    """Enlarges or shrinks every image about its centre by a factor of 1 - amount to 1 + amount."""

    amount: Annotated[Fraction, "largest change of the factor"] = 0.1

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """source = centre + (target - centre) / factor."""
        n, _, h, w = pixels.shape
        shrink = (1 / random.uniform(1 - self.amount, 1 + self.amount, (n, 1, 1))).astype(np.float32)
        (down, middle), (across, centre) = _from_centre(h), _from_centre(w)
        resample(pixels, shrink * down[:, None] + middle, shrink * across + centre)


@register("elastic")
class Elastic(Augmentation):
    """Moves every pixel by alpha times a field of random numbers in -1..1 that a Gaussian has smoothed.

    Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis" (2003), section 2; alpha 34 and sigma 4 are theirs for MNIST and move a pixel by about 1.4. The random
    numbers are drawn for every cell of 2x2 pixels: behind the Gaussian that is the same, at a quarter of the price.
    """

    alpha: Annotated[PositiveNumber, "strength, in pixels"] = 34.0
    sigma: Annotated[PositiveNumber, "standard deviation of the Gaussian, in pixels"] = 4.0

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """source = target + alpha G u."""
        n, _, h, w = pixels.shape
        cells = (2, n, -(-h // CELL), -(-w // CELL))
        # Bytes are drawn eight at a time, and 256 levels are enough where many are averaged.
        noise = np.frombuffer(random.bytes(int(np.prod(cells))), np.uint8).reshape(cells) - np.float32(127.5)
        strength = np.float32(self.alpha * FINE / 127.5)
        smooth = kept("smooth", (2, n, h, cells[-1]), np.float32)
        np.matmul(strength * _gaussian(h, self.sigma), noise, out=smooth)
        rows, columns = np.matmul(smooth, _gaussian(w, self.sigma).T, out=kept("places", (2, n, h, w), np.float32))
        np.add(rows, places(h)[:, None], out=rows)
        np.add(columns, places(w), out=columns)
        resample(pixels, rows, columns)


def resample(pixels: Array, rows: Array, columns: Array) -> None:
    """Read every pixel at rows and columns that broadcast to (n, h, w), bilinearly, black outside; in place.

    Rows and columns are counted as `places` counts them. Their fractions are cut off, which rounds places to 1/16 of a
    pixel, so that all arithmetic is that of whole numbers, two of 16 bits in each of 32: the upper and the lower row.
    """
    n, c, h, w = pixels.shape
    # Behind a border of one pixel in front and two at the end no place that is cut to it needs a check.
    height, width = h + 3, w + 3
    bordered = kept("bordered", (c, n, height, width), np.uint32)
    bordered.fill(0)
    bordered[:, :, 1:-2, 1:-2] = pixels.transpose(1, 0, 2, 3)
    source, moved = bordered.reshape(c, -1), kept("moved", (c, n * height * width), np.uint32)
    for step, bits in ((1, 8), (width, 16)):  # then a number holds its pixel, the next one, and the two below
        np.left_shift(source[:, step:], np.uint32(bits), out=moved[:, :-step])
        np.bitwise_or(source[:, :-step], moved[:, :-step], out=source[:, :-step])
    row, below = _split("rows", rows, h)
    column, right = _split("columns", columns, w)
    np.multiply(row, width, out=row)
    first = np.arange(0, n * height * width, height * width, dtype=np.int32).reshape(n, 1, 1)
    place = kept("place", (n, h, w), np.intp)
    np.add(np.add(row, first), column, out=place)
    left_pair = kept("left", (c, n, h, w), np.uint32)
    right_pair = kept("right", (c, n, h, w), np.uint32)
    # `place` lies within the source; mode="clip" spares the copy that NumPy makes to be able to raise.
    np.take(source, place.reshape(-1), axis=1, mode="clip", out=left_pair.reshape(c, -1))
    np.right_shift(left_pair, np.uint32(8), out=right_pair)
    np.bitwise_and(left_pair, LANES, out=left_pair)
    np.bitwise_and(right_pair, LANES, out=right_pair)
    both = _between(left_pair, right_pair, right)
    lower = np.right_shift(both, np.uint32(16), out=right_pair)
    upper = np.bitwise_and(both, np.uint32(0xFFFF), out=both)
    total = _between(upper, lower, below)
    np.add(total, np.uint32(FINE * FINE // 2), out=total)
    np.right_shift(total, np.uint32(2 * BITS), out=total)
    np.copyto(pixels, total.transpose(1, 0, 2, 3), casting="unsafe")


def _between(first: Array, second: Array, share: Array) -> Array:
    """FINE first + share (second - first) in both halves; overwrites both, the first with the result.

    What a difference borrows from the other half, the sum gives back.
    """
    np.subtract(second, first, out=second)
    np.multiply(second, share, out=second)
    np.left_shift(first, np.uint32(BITS), out=first)
    return np.add(first, second, out=first)


def places(length: int) -> Array:
    """Where the pixels of an axis lie, in sixteenths of a pixel behind the border's, and a half to round by."""
    return np.arange(FINE, FINE * (length + 1), FINE, dtype=np.float32) + np.float32(0.5)


def _from_centre(length: int) -> tuple[Array, np.float32]:
    """The places of an axis as distances from their centre, and the centre."""
    along = places(length)
    centre = (along[0] + along[-1]) / np.float32(2)
    return along - centre, centre


def _split(name: str, along: Array, length: int) -> tuple[Array, Array]:
    """The pixel in front of each place, counted from the border's, and how far behind it the place is."""
    cut = np.clip(along, 0, (length + 1) * FINE, out=kept(f"{name} cut", along.shape, np.float32))
    fine = kept(f"{name} fine", along.shape, np.int32)
    np.copyto(fine, cut, casting="unsafe")
    share = np.bitwise_and(fine, FINE - 1, out=kept(f"{name} share", along.shape, np.int32))
    return np.right_shift(fine, BITS, out=fine), share.view(np.uint32)


_memory = threading.local()


def kept(name: str, shape: tuple[int, ...], dtype: type) -> Array:
    """An array that a thread keeps from one batch to the next, with whatever is in it.

    Memory that is given back to the system at every batch comes anew page by page, which takes longer than all the
    arithmetic here.
    """
    arrays: dict[str, Array] = _memory.__dict__
    if name not in arrays or arrays[name].shape != shape:
        arrays[name] = np.empty(shape, dtype)
    return arrays[name]


@lru_cache(maxsize=8)
def _gaussian(length: int, sigma: float) -> Array:
    """(length, cells): a Gaussian along one axis about the centre of each cell, nothing beyond the ends.

    The sum of CELL independent numbers spreads as one number times sqrt(CELL).
    """
    centres = np.arange(0, length, CELL) + (CELL - 1) / 2
    distances = np.arange(length)[:, None] - centres
    weights = np.exp(-(distances**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray((np.sqrt(CELL) * weights).astype(np.float32))
