"""Augmentations that resample: every output pixel is read from a place between the source's pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np

from cnnspec.data.augmentation import Augmentation
from cnnspec.fields import Angle, Fraction, PositiveNumber
from cnnspec.kernels.step import Array
from cnnspec.registry import register

BITS = 4  # of a place's fraction: products of two fractions, and their sums over bytes, fit 16 bits
FINE = 1 << BITS
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
        down = down[:, None]
        resample(pixels, (cosine * down + middle) - sine * across, sine * down + (cosine * across + centre))


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
        rows, columns = strength * _gaussian(h, self.sigma) @ noise @ _gaussian(w, self.sigma).T
        rows += places(h)[:, None]
        columns += places(w)
        resample(pixels, rows, columns)


def resample(pixels: Array, rows: Array, columns: Array) -> None:
    """Read every pixel at rows and columns that broadcast to (n, h, w), bilinearly, black outside; in place.

    Rows and columns are counted as `places` counts them. Their fractions are cut off, which rounds places to 1/16 of a
    pixel, so that all arithmetic is that of 16-bit whole numbers.
    """
    n, c, h, w = pixels.shape
    # Behind a border of one pixel in front and two at the end no place that is cut to it needs a check.
    height, width = h + 3, w + 3
    bordered = np.zeros((c, n, height, width), np.uint8)
    bordered[:, :, 1:-2, 1:-2] = pixels.transpose(1, 0, 2, 3)
    row, below = _split(rows, h)
    column, right = _split(columns, w)
    first = np.arange(0, n * height * width, height * width).reshape(n, 1, 1)
    place = (row * width + column + first).reshape(-1)
    source = bordered.reshape(c, -1)

    def part(step: int, weight: Array) -> Array:
        found = source[:, step:].take(place, axis=1, mode="clip").reshape(c, n, h, w)
        return np.asarray(np.multiply(found, weight, dtype=np.uint16))

    above, left = FINE - below, FINE - right
    total = part(0, above * left)
    total += part(1, above * right)
    total += part(width, below * left)
    total += part(width + 1, below * right)
    total += FINE * FINE // 2
    total >>= 2 * BITS
    np.copyto(pixels, total.transpose(1, 0, 2, 3), casting="unsafe")


def places(length: int) -> Array:
    """Where the pixels of an axis lie, in sixteenths of a pixel behind the border's, and a half to round by."""
    return np.arange(FINE, FINE * (length + 1), FINE, dtype=np.float32) + np.float32(0.5)


def _from_centre(length: int) -> tuple[Array, np.float32]:
    """The places of an axis as distances from their centre, and the centre."""
    along = places(length)
    centre = (along[0] + along[-1]) / np.float32(2)
    return along - centre, centre


def _split(along: Array, length: int) -> tuple[Array, Array]:
    """The pixel in front of each place, counted from the border's, and how far behind it the place is."""
    fine: Array = np.clip(along, 0, (length + 1) * FINE).astype(np.int32)
    return fine >> BITS, fine.astype(np.uint16) & np.uint16(FINE - 1)


@lru_cache(maxsize=8)
def _gaussian(length: int, sigma: float) -> Array:
    """(length, cells): a Gaussian along one axis about the centre of each cell, nothing beyond the ends.

    The sum of CELL independent numbers spreads as one number times sqrt(CELL).
    """
    centres = np.arange(0, length, CELL) + (CELL - 1) / 2
    distances = np.arange(length)[:, None] - centres
    weights = np.exp(-(distances**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray((np.sqrt(CELL) * weights).astype(np.float32))
