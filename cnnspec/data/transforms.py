"""Transforms: changes to every image before the first layer.

Geometric ones work on bytes, once, when the data is opened. The others say how a byte becomes a number, and are folded
into one multiplication and one addition, applied when a batch enters the network. Without any, pixels enter as 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.data.resize import resize
from cnnspec.fields import Byte, Declaration, Number, Padding, Pair, PerChannel
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError


class Transform(Declaration):
    """Base of all transforms; each one changes shapes and bytes, or the scale of numbers, or nothing."""

    kind: ClassVar[str] = "transform"

    def infer_shape(self, shape: Shape) -> Shape:
        """Return the shape of an image after the transform; ShapeError if it does not fit."""
        return shape

    def apply(self, pixels: Array) -> Array:
        """Return the images (n, c, h, w) of bytes after the transform."""
        return pixels

    def move_maps(self, maps: Array) -> Array:
        """Return class maps (n, h, w), changed as the transform changes their images."""
        return maps

    def rescale(self, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Return scale and shift (c,) of x = byte * scale + shift after the transform."""
        return scale, shift


@register("resize")
class Resize(Transform):
    """Resizes as pictures are: bilinear between pixel centres, averaging where it shrinks (see `resize.py`)."""

    size: Annotated[Pair, "height and width"]

    def infer_shape(self, shape: Shape) -> Shape:
        """Return (c, height, width)."""
        return (shape[0], *self.size)

    def apply(self, pixels: Array) -> Array:
        """Return the resized images, or the same ones if they have the size already."""
        return resize(pixels, self.size)

    def move_maps(self, maps: Array) -> Array:
        """Return maps in which every pixel has the class of the source pixel nearest to its position."""
        (_, h, w), (height, width) = maps.shape, self.size
        rows, columns = ((np.arange(to) * 2 + 1) * of // (2 * to) for of, to in ((h, height), (w, width)))
        return maps[:, rows[:, None], columns]


@register("pad")
class Pad(Transform):
    """Puts a border around every image."""

    padding: Annotated[Padding, "n, [h, w] or [top, bottom, left, right]"]
    value: Annotated[Byte, "byte in the border"] = 0

    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return rows above and below, and columns left and right; ShapeError for a padding given by name."""
        match self.padding:
            case int(n):
                return (n, n), (n, n)
            case (int(v), int(h)):
                return (v, v), (h, h)
            case (int(t), int(b), int(left), int(r)):
                return (t, b), (left, r)
        raise ShapeError(
            f"pad: expected numbers of rows and columns, got {self.padding}", help="write padding: 2, or [2, 2, 2, 2]"
        )

    def infer_shape(self, shape: Shape) -> Shape:
        """Return (c, h + top + bottom, w + left + right)."""
        vertical, horizontal = self.sides()
        return (shape[0], shape[1] + sum(vertical), shape[2] + sum(horizontal))

    def apply(self, pixels: Array) -> Array:
        """Return a copy with the border."""
        return np.pad(pixels, ((0, 0), (0, 0), *self.sides()), constant_values=self.value)

    def move_maps(self, maps: Array) -> Array:
        """Return maps with a border of class 0."""
        return np.pad(maps, ((0, 0), *self.sides()))


@register("scale")
class Scale(Transform):
    """Maps bytes 0..255 to minimum..maximum."""

    minimum: Annotated[Number, "what 0 becomes"] = 0.0
    maximum: Annotated[Number, "what 255 becomes"] = 1.0

    def rescale(self, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Compose with x (maximum - minimum) + minimum, for x in 0..1."""
        width = self.maximum - self.minimum
        return scale * width, shift * width + self.minimum


@register("normalize")
class Normalize(Transform):
    """Subtracts a mean and divides by a standard deviation, of pixels in 0..1, for each channel or for all."""

    mean: Annotated[PerChannel, "one number, or one a channel"]
    std: Annotated[PerChannel, "one number, or one a channel"]

    def infer_shape(self, shape: Shape) -> Shape:
        """Return the same shape; ShapeError if the number of means or deviations is not the number of channels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape[0]):
                counts = "1 number" if shape[0] == 1 else f"1 or {shape[0]} numbers"
                raise ShapeError(
                    f"normalize: expected {counts} in {name}, got {len(values)}",
                    help="give one number, or one for each channel",
                )
        if 0 in self.std:
            raise ShapeError("normalize: expected std above 0, got 0", help="use the data's standard deviation")
        return shape

    def rescale(self, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Compose with (x - mean) / std."""
        mean, std = np.array(self.mean), np.array(self.std)
        return scale / std, (shift - mean) / std


def affine(transforms: Sequence[Transform], channels: int) -> tuple[Array, Array]:
    """Return the scale and shift (c,) in float32 by which a byte becomes a number."""
    scale, shift = np.full(channels, 1 / 255), np.zeros(channels)
    for transform in transforms:
        scale, shift = transform.rescale(scale, shift)
    return scale.astype(np.float32), shift.astype(np.float32)
