"""A network with several inputs: named arrays are checked and concatenated to the one vector that the network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from cnnspec.data.arrays import as_pixels, refused
from cnnspec.kernels.step import Array
from cnnspec.memory import require_memory
from cnnspec.shapes import Shape, size, text


@dataclass(frozen=True, slots=True)
class Inputs:
    """The shapes of several inputs by name, and which of them are pictures of bytes.

    Bytes (uint8) for an input of channels, height and width are pixels, and enter as x / 255; all other numbers enter
    as they are. The training images decide which is which: `pixels` is None until they are seen.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    pixels: frozenset[str] | None = None

    def __bool__(self) -> bool:
        """Whether the network has several inputs: a single input has no name."""
        return bool(self.shapes)

    def __str__(self) -> str:
        return ", ".join(f"{name} (n, {', '.join(map(str, shape))})" for name, shape in self.shapes.items())

    def seen(self, arrays: Mapping[str, Array]) -> Self:
        """Return inputs in which the training arrays decide which are pixels, unless that is known."""
        if self.pixels is not None or not self.shapes:
            return self
        pictures = [name for name, shape in self.shapes.items() if len(shape) == 3]
        byte_names = frozenset(
            name for name in pictures if name in arrays and np.asarray(arrays[name]).dtype == np.uint8
        )
        return replace(self, pixels=byte_names)

    def joined(self, arrays: object, subject: str = "inputs") -> Array:
        """Concatenate the arrays (n, ...) of all inputs, in the order of the spec, to (n, elements).

        DataError, a ValueError too, if names, shapes, lengths or values are wrong.
        """
        if not isinstance(arrays, Mapping):
            raise refused(f"{subject}: expected arrays by name, {self}, got {type(arrays).__name__}", self._cure)
        for name in self.shapes:
            if name not in arrays:
                raise refused(f"{subject}: expected arrays {self}, got {', '.join(arrays) or 'none'}", self._cure)
        for name in arrays:
            if name not in self.shapes:
                raise refused(f"{subject}: the network has no input '{name}', its inputs are {self}", self._cure)
        known = self.seen(arrays)
        parts = {name: known._part(name, np.asarray(array), f"{subject}: {name}") for name, array in arrays.items()}
        counts = {name: len(part) for name, part in parts.items()}
        if len(set(counts.values())) > 1:
            counted = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
            raise refused(
                f"{subject}: expected as many images in each array, got {counted}", "one row of each is one example"
            )
        elements = sum(map(size, self.shapes.values()))
        count = next(iter(counts.values()))
        require_memory(4 * count * elements, subject, "give fewer or smaller arrays")
        joined = np.empty((count, elements), np.float32)
        start = 0
        for name, shape in self.shapes.items():
            stretch = joined[:, start : start + size(shape)]
            stretch[...] = parts[name].reshape(count, size(shape))
            if known.pixels is not None and name in known.pixels:
                stretch /= 255
            start += size(shape)
        if not np.isfinite(joined).all():
            raise refused(
                f"{subject}: expected finite numbers, got some that are infinite or not a number", "remove them"
            )
        return joined

    def record(self) -> list[str] | None:
        """Return the names of the inputs that are pixels, for JSON; None if they are not known yet."""
        return None if self.pixels is None else sorted(self.pixels)

    def restored(self, pixels: Sequence[str] | None) -> Self:
        """Return inputs with the names of pixel inputs that `record` returned."""
        return replace(self, pixels=None if pixels is None else frozenset(pixels))

    @property
    def _cure(self) -> str:
        return f"give {{{', '.join(f'{name!r}: array' for name in self.shapes)}}}"

    def _part(self, name: str, array: Array, subject: str) -> Array:
        """Check the array (n, ...) of one input; pixels are returned as bytes."""
        shape = self.shapes[name]
        if array.dtype.kind not in "biuf":
            raise refused(f"{subject}: expected numbers, got {array.dtype}", "give an array of numbers")
        if array.ndim == 0 or (array.shape[1:] != shape and array.shape[1:] != _short(shape)):
            turned = len(shape) == 3 and array.shape[1:] == (*shape[1:], shape[0])
            cure = "channels come first: x.transpose(0, 3, 1, 2)" if turned else f"each is {text(shape)}"
            raise refused(f"{subject}: expected (n, {', '.join(map(str, shape))}), got {array.shape}", cure)
        if self.pixels is not None and name in self.pixels:
            return as_pixels(array, subject)
        if self.pixels is not None and len(shape) == 3 and array.dtype == np.uint8:
            cure = "scale them as the training images were"
            raise refused(f"{subject}: expected numbers as in training, which were no bytes, got uint8", cure)
        return array


def _short(shape: Shape) -> Shape:
    """Return a shape without a leading axis of length 1, which people omit: (h, w) for one channel, () for a number."""
    return shape[1:] if shape[0] == 1 else shape


ONE = Inputs()  # stands for a network with a single input, which has no name
