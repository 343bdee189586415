"""Augmentations that move pixels to positions between pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Annotated

import numpy as np

from cnnspec.data.augmentation import Augmentation, cut
from cnnspec.data.resample import SampleGrid, resample, resample_maps
from cnnspec.fields import Angle, Fraction, Pixels, PositiveInt
from cnnspec.kernels.step import Array
from cnnspec.registry import register


class Warp(Augmentation):
    """Base of warps, which compute source positions; consecutive warps are resampled only once.

    That is faster, blurs less, and pixels that one warp moves out of the image another one may move back.
    """

    moves = True

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Change the source positions of the pixels."""
        raise NotImplementedError

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Resample the images at the source positions."""
        n, _, h, w = pixels.shape
        self.move(places := SampleGrid(n, h, w), random)
        resample(pixels, places)

    def move_maps(self, maps: Array, random: np.random.Generator) -> None:
        """Give every pixel the class of the pixel nearest to its source position."""
        self.move(places := SampleGrid(*maps.shape), random)
        resample_maps(maps, places)


class WarpChain(Warp):
    """Several consecutive warps as a single one."""

    parts: Annotated[tuple[Warp, ...], "in their order"]

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Apply the position changes of all parts, in order."""
        for part in self.parts:
            part.move(places, random)


def joined(augmentations: Sequence[Augmentation]) -> Iterator[Augmentation]:
    """Yield the augmentations, with every run of two or more warps replaced by one WarpChain."""
    for _, group in groupby(augmentations, lambda part: isinstance(part, Warp)):
        parts = list(group)
        warps = tuple(part for part in parts if isinstance(part, Warp))
        yield from [WarpChain(parts=warps)] if len(warps) > 1 else parts


@register("shift")
class Shift(Warp):
    """Moves every image by up to some pixels down and across; what comes in is black."""

    erases = ("pixels", 2)
    pixels: Annotated[PositiveInt, "largest distance"] = 2

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Add a random whole number of rows and columns to each image's positions."""
        moves = random.integers(-self.pixels, self.pixels + 1, (places.shape[0], 2))
        places.transform(np.eye(2), moves)

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Pad each image and cut out a window: a shift by whole pixels needs no resampling."""
        cut(pixels, self.pixels, "constant", random)

    def move_maps(self, maps: Array, random: np.random.Generator) -> None:
        """Shift maps in the same way as images."""
        self.apply(maps[:, None], random)


@register("rotate")
class Rotate(Warp):
    """Turns every image about its centre by an angle up to a limit, either way; what comes in is black."""

    degrees: Annotated[Angle, "largest angle"] = 10.0

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Rotate the positions: source = R target, with a random angle for each image."""
        angle = np.deg2rad(random.uniform(-self.degrees, self.degrees, places.shape[0]))
        cosine, sine = np.cos(angle), np.sin(angle)
        places.transform(np.stack((cosine, -sine, sine, cosine), axis=1).reshape(-1, 2, 2))


@register("scale")
class RandomScale(Warp):
    """Enlarges or shrinks every image about its centre by a factor of 1 - amount to 1 + amount."""

    amount: Annotated[Fraction, "largest change of the factor"] = 0.1

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Scale the positions: source = target / factor, with a random factor for each image."""
        factor = random.uniform(1 - self.amount, 1 + self.amount, (places.shape[0], 1, 1))
        places.transform(np.eye(2) / factor)


@register("elastic")
class Elastic(Warp):
    """Moves every pixel by alpha times a field of random numbers in -1..1 that a Gaussian has smoothed.

    Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis" (2003), section 2; alpha 34 and sigma 4 are theirs for MNIST and move a pixel by about 1.4. The random
    numbers are drawn for square cells of up to sigma pixels: behind the Gaussian that is the same.
    """

    alpha: Annotated[Pixels, "strength, in pixels"] = 34.0
    sigma: Annotated[Pixels, "standard deviation of the Gaussian, in pixels"] = 4.0

    def move(self, places: SampleGrid, random: np.random.Generator) -> None:
        """Add a smooth random field to the positions: source = target + alpha G u."""
        n, h, w = places.shape
        down, across = gaussian(h, self.sigma), gaussian(w, self.sigma)
        cells, size = len(down), (2, n, len(across), len(down))
        # Bytes are drawn eight at a time; 256 levels are enough, because the Gaussian averages many.
        noise = np.frombuffer(random.bytes(int(np.prod(size))), np.uint8) - np.float32(127.5)
        field = noise.reshape(-1, cells) @ (np.float32(self.alpha / 127.5) * down)
        places.displace(field.reshape(*size[:3], h), across)


@lru_cache(maxsize=8)
def gaussian(length: int, sigma: float, cell: int | None = None) -> Array:
    """Return (cells, length): a Gaussian along one axis about the centre of each cell, zero beyond the ends.

    The sum of `cell` independent numbers has the spread of one number times sqrt(cell). Cells of up to sigma pixels
    change the covariance of two pixels by less than 2 exp(-pi^2) of the variance, the aliasing of a sum over them.
    """
    cell = cell or max(1, int(sigma))
    centres = np.arange(0, length, cell) + (cell - 1) / 2
    distances = np.arange(length) - centres[:, None]
    weights = np.exp(-(distances**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray((np.sqrt(cell) * weights).astype(np.float32))
