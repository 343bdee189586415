"""Augmentations: random changes of training images, determined by the seed."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import Byte, Declaration, PositiveInt, UnitInterval
from cnnspec.kernels.step import Array
from cnnspec.registry import register

PAD_MODES = {"zero": "constant", "edge": "edge", "reflect": "symmetric"}  # NumPy's name of each mode


class Augmentation(Declaration):
    """Base of all augmentations; they change the images (n, c, h, w) of several batches in place, all at once.

    The result depends only on the images and the generator, which is created for every portion of an epoch's batches
    from the seed, the epoch, the portion's number and the augmentation's position.
    """

    kind: ClassVar[str] = "augmentation"
    mirrors: ClassVar[bool] = False  # whether left and right change places
    erases: ClassVar[tuple[str, int] | None] = None  # a field in pixels, and the divisor of the side that bounds it
    mixes_labels: ClassVar[bool] = False  # whether an image may come to belong to several classes
    moves: ClassVar[bool | None] = None  # whether pixels change places, as those of a map have to; None if unknown

    @property
    def alternating(self) -> float | None:
        """The share of images that `apply_to` changes in even epochs, the rest in odd ones; None for random choice."""
        return None

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Change the images."""
        raise NotImplementedError

    def mix(self, pixels: Array, targets: Array, random: np.random.Generator) -> None:
        """Mix the images (n, c, h, w), and the target values (outputs, n) of the loss in the same shares."""
        self.apply(pixels, random)

    def apply_to(self, pixels: Array, chosen: Array) -> None:
        """Change the images that `chosen`, booleans (n,), selects, for augmentations that alternate by epoch."""
        raise NotImplementedError

    def move_maps(self, maps: Array, random: np.random.Generator) -> None:
        """Move class maps (n, h, w) as `apply` moves images with the same generator; new pixels are of class 0."""
        if self.moves:
            self.apply(maps[:, None], random)


@register("flip")
class Flip(Augmentation):
    """Mirrors images left to right.

    With `order: alternating` an image that was not mirrored in one epoch is in the next one, and the other way round,
    so that any two epochs show both sides; `probability` is then the share of the first. Source: Jordan, "94% on
    CIFAR-10 in 3.29 seconds on a single GPU" (2024).
    """

    mirrors = True
    moves = True
    probability: Annotated[UnitInterval, "share of images that are mirrored"] = 0.5
    order: Annotated[Literal["random", "alternating"], "anew in every epoch, or by turns"] = "random"

    @property
    def alternating(self) -> float | None:
        """The probability, if mirrored images alternate between epochs; None if they are drawn at random."""
        return self.probability if self.order == "alternating" else None

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Mirror each image with the given probability."""
        self.apply_to(pixels, random.random(len(pixels)) < self.probability)

    def apply_to(self, pixels: Array, chosen: Array) -> None:
        """Mirror the chosen images."""
        places = np.flatnonzero(chosen)
        pixels[places] = pixels[places, :, :, ::-1]


@register("crop")
class Crop(Augmentation):
    """Pads every image on all sides and cuts a window of its former size out of it, anywhere.

    Source: He et al., "Deep residual learning for image recognition" (2016), section 4.2.
    """

    erases = ("padding", 2)
    moves = True
    padding: Annotated[PositiveInt, "rows and columns that are added on each side"] = 4
    mode: Annotated[Literal["zero", "edge", "reflect"], "what the border is filled with"] = "zero"

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Pad each image, and cut a window of its size from a random place."""
        cut(pixels, self.padding, PAD_MODES[self.mode], random)


def cut(pixels: Array, reach: int, mode: str, random: np.random.Generator) -> None:
    """Pad each image by `reach` pixels on all sides, and replace it by a window of its size from a random place."""
    n, c, h, w = pixels.shape
    if mode == "constant":
        # np.pad does the same, but takes longer than the rest of this function.
        padded = np.zeros((n, c, h + 2 * reach, w + 2 * reach), np.uint8)
        padded[:, :, reach:-reach, reach:-reach] = pixels
    else:
        padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
    down, across = random.integers(0, 2 * reach + 1, (2, n))
    pixels[...] = windows[np.arange(n), :, down, across]


@register("brightness")
class Brightness(Augmentation):
    """Adds one number to all pixels of an image, up to a share of the range from black to white either way."""

    moves = False
    amount: Annotated[UnitInterval, "largest change, where 1 is from black to white"] = 0.2

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Add a random number to each image in a wider integer type, then clip to 0..255."""
        reach = 255 * self.amount
        change = np.rint(random.uniform(-reach, reach, (len(pixels), 1, 1, 1))).astype(np.int16)
        np.copyto(pixels, np.clip(pixels + change, 0, 255), casting="unsafe")


@register("contrast")
class Contrast(Augmentation):
    """Multiplies the distance of every pixel from the mean of its image and channel by 1 - amount to 1 + amount."""

    moves = False
    amount: Annotated[UnitInterval, "largest change of the factor"] = 0.2

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Replace each pixel x by mean + factor (x - mean), rounded and clipped to 0..255."""
        n, _, h, w = pixels.shape
        factor = random.uniform(1 - self.amount, 1 + self.amount, (n, 1, 1, 1)).astype(np.float32)
        mean = pixels.sum(axis=(2, 3), keepdims=True, dtype=np.int64) / np.float32(h * w)
        changed = pixels * factor
        changed += (mean * (1 - factor)).astype(np.float32)
        np.rint(changed, out=changed)
        np.copyto(pixels, np.clip(changed, 0, 255, out=changed), casting="unsafe")


@register("cutout")
class Cutout(Augmentation):
    """Fills a square with one value; its centre is anywhere in the image, parts of it may lie outside.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
    """

    erases = ("size", 1)
    moves = False
    size: Annotated[PositiveInt, "pixels along a side"] = 8
    value: Annotated[Byte, "what it is filled with"] = 0
    probability: Annotated[UnitInterval, "share of images that lose a square"] = 1.0

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Fill one random square in every image."""
        n, _, h, w = pixels.shape
        sizes = np.where(random.random(n) < self.probability, self.size, 0)
        np.copyto(pixels, self.value, where=boxes(h, w, sizes, sizes, random)[:, None])


def boxes(h: int, w: int, heights: Array, widths: Array, random: np.random.Generator) -> Array:
    """Return masks (n, h, w), true in a box of each image's given height and width, centred at a random pixel."""
    n = len(heights)
    tops = random.integers(0, h, (n, 1)) - heights[:, None] // 2
    lefts = random.integers(0, w, (n, 1)) - widths[:, None] // 2
    rows, columns = np.arange(h), np.arange(w)
    down = (rows >= tops) & (rows < tops + heights[:, None])
    across = (columns >= lefts) & (columns < lefts + widths[:, None])
    return np.asarray(down[:, :, None] & across[:, None, :])
