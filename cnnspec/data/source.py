"""What a data source is: where images and labels come from, and what is known of them before a file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnnspec.diagnostics import DataError
from cnnspec.fields import Declaration
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


@dataclass(frozen=True, slots=True)
class Images:
    """Pixels (n, c, h, w) as bytes, labels (n,) as int64."""

    pixels: Array
    labels: Array


class Source(Declaration):
    """Base of all data sources."""

    kind: ClassVar[str] = "source"
    image_shape: ClassVar[Shape]
    classes: ClassVar[tuple[str, ...]]
    counts: ClassVar[Mapping[str, int]]  # images in train and test

    def read(self, root: Path | None, download: bool) -> tuple[dict[str, Images], dict[str, str]]:
        """The images of train and test, and the SHA-256 of each file; DataError where something is not right."""
        raise NotImplementedError


def check_labels(labels: Array, classes: int, file: str) -> None:
    """DataError where a label names no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{file}: label {labels[first]} of image {first} is none of the {classes} classes (0 to {classes - 1})",
            "the file is damaged or belongs to another data set; fetch it again",
        )
