"""Augmentations: random changes of training images, by the seed."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, PositiveInt, UnitInterval
from cnnspec.kernels.step import Array
from cnnspec.registry import register


class Augmentation(Declaration):
    """Base of all augmentations; they change a batch of bytes (n, c, h, w) in place."""

    kind: ClassVar[str] = "augmentation"

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Change the batch."""
        raise NotImplementedError


@register("flip")
class Flip(Augmentation):
    """Mirrors images left to right."""

    probability: Annotated[UnitInterval, "share of images that are mirrored"] = 0.5

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Mirror some."""
        chosen = np.flatnonzero(random.random(len(pixels)) < self.probability)
        pixels[chosen] = pixels[chosen, :, :, ::-1]


@register("shift")
class Shift(Augmentation):
    """Moves every image by up to some pixels down and across; what comes in is black."""

    pixels: Annotated[PositiveInt, "largest distance"] = 2

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Pad, and cut a window from each."""
        reach = self.pixels
        n, _, h, w = pixels.shape
        padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        down, across = random.integers(0, 2 * reach + 1, (2, n))
        pixels[...] = windows[np.arange(n), :, down, across]
