"""The 1,797 handwritten digits that come with the package.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49, licence CC BY 4.0; the test part of the set, 8x8 pixels of 17 levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from cnnspec.data.published import Published
from cnnspec.data.source import Found, Images
from cnnspec.data.split import held_out
from cnnspec.registry import register

LEVELS = 16


@register("digits")
class Digits(Published):
    """8x8 handwritten digits, 1,437 to train and 360 to test, within the package: nothing to fetch."""

    chiral = True
    shape = (1, 8, 8)
    names = tuple("0123456789")
    sizes: ClassVar[dict[str, int]] = {"train": 1437, "test": 360}

    def open(self, paths: list[Path]) -> Found:
        """Read the images, with levels 0..16 scaled to bytes 0..255."""
        import gzip  # these take longer to import than all of data
        import hashlib
        from importlib.resources import files

        packed = files("cnnspec.data").joinpath("files", "digits.csv.gz").read_bytes()
        table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.int64)
        levels, labels = table[:, :-1], table[:, -1]
        pixels = np.rint(levels * (255 / LEVELS)).astype(np.uint8).reshape(-1, *self.shape)
        checksums = {"digits.csv.gz": hashlib.sha256(packed).hexdigest()}
        return Found(held_out(Images(pixels, labels), self.sizes["test"]), checksums, self.names)
