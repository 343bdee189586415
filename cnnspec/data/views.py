"""Test-time augmentation: several views of one image, whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, NonNegativeInt
from cnnspec.kernels.step import Array


class Views(Declaration):
    """Test-time augmentation: `eval` and `predict` average the probabilities of several views of each image."""

    kind: ClassVar[str] = "section"
    flip: Annotated[bool, "also the image mirrored left to right"] = False
    shifts: Annotated[NonNegativeInt, "also the image moved by so many pixels up, down, left and right"] = 0

    @property
    def count(self) -> int:
        """The number of views of one image."""
        return (1 + self.flip) * (5 if self.shifts else 1)

    def __str__(self) -> str:
        """Return a text such as `10 views: flip, shifts by 1`."""
        parts = ["flip"] * self.flip + [f"shifts by {self.shifts}"] * bool(self.shifts)
        return f"{self.count} views: {', '.join(parts) or 'the image alone'}"

    def shown(self, images: Array) -> Iterator[Array]:
        """Yield every view of the images (n, c, h, w), the original first; shifted views repeat the edge."""
        n = self.shifts
        moves = [(0, 0), *([(-n, 0), (n, 0), (0, -n), (0, n)] if n else [])]
        height, width = images.shape[2:]
        for mirrored in (images, images[..., ::-1]) if self.flip else (images,):
            for down, across in moves:
                rows, columns = np.arange(height) - down, np.arange(width) - across
                yield mirrored[:, :, rows.clip(0, height - 1)][..., columns.clip(0, width - 1)]
