"""The Street View House Numbers, read from their MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.data.archive import require_size
from cnnspec.data.download import file_checksum
from cnnspec.data.matlab import AGAIN, Numbers, numbers_in, part_of
from cnnspec.data.rows import Pixels, in_one
from cnnspec.data.source import Found, Images, Source, check_labels
from cnnspec.data.store import BLOCK, MEMORY, Store, Writing, key_of, stamps
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.memory import require_memory
from cnnspec.registry import register
from cnnspec.shapes import Shape

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
FOLDERS = ("", "svhn", "SVHN")
DIGITS = tuple("0123456789")


@register("svhn")
class Svhn(Source):
    """99,289 house numbers, one digit each, of 32x32 pixels in colour, from two .mat files that are fetched by hand.

    Source: Netzer et al., "Reading digits in natural images with unsupervised feature learning" (2011).
    """

    chiral = True

    @property
    def image_shape(self) -> Shape:
        """The shape of 32x32 pixels in colour."""
        return (3, 32, 32)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The ten digits."""
        return DIGITS

    @property
    def counts(self) -> Mapping[str, int]:
        """The published numbers of training and test images."""
        return {"train": 73_257, "test": 26_032}

    def images_in(self, path: Path) -> Array | None:
        """Return the images of a .mat file."""
        return in_one(_read(path, MEMORY, "")[0]) if path.suffix == ".mat" else None

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read both files, in which the digit 0 has the label 10."""
        places = {split: _place(root or Path(), name) for split, name in FILES.items()}
        splits, notes = {}, list[str]()
        for split, path in places.items():
            require_size(path)
            key = key_of("svhn", *stamps([path]))
            stored = store.find(key)
            pixels, record = stored or _read(path, store, key)
            notes += store.location_note(path, pixels, new=stored is None)
            splits[split] = Images(pixels, record["labels"])
        checksums = {path.name: file_checksum(path) for path in places.values()}
        return Found(splits, checksums, DIGITS, tuple(notes))


def _place(root: Path, name: str) -> Path:
    for folder in FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    raise DataError(
        f"{root / name}: no such file, nor in svhn/ or SVHN/",
        "fetch both .mat files, and name their folder with --data DIR",
    )


def _read(path: Path, store: Store, key: str) -> tuple[Pixels, Mapping[str, Any]]:
    """Read the images and labels of one file."""
    with numbers_in(path, "y") as file:
        marks = _read_all(path, file).astype(np.int64)
    labels = np.where(marks == len(DIGITS), 0, marks)
    check_labels(labels, len(DIGITS), path)
    with numbers_in(path, "X") as file:
        if file.shape[:3] != (32, 32, 3) or file.shape[3:] != labels.shape or file.dtype != np.uint8:
            expected = f"{len(labels):,} images of 32x32x3 bytes, one for each label"
            raise DataError(f"{path}: X: expected {expected}, got {file.dtype} {file.shape}", AGAIN)
        row = prod(file.shape[:3])

        def write(out: Writing) -> None:
            for start in range(0, len(labels), BLOCK):
                count = min(BLOCK, len(labels) - start)
                content = part_of(path, file, count * row)
                out.add(np.frombuffer(content, np.uint8).reshape(count, 3, 32, 32).swapaxes(2, 3))
            out.record["labels"] = labels

        return store.make(key, (len(labels), 3, 32, 32), np.uint8, f"{path}: reading {len(labels):,} images", write)


def _read_all(path: Path, found: Numbers) -> Array:
    """Return all numbers of an array; DataError if they exceed the free memory."""
    size = prod(found.shape) * found.dtype.itemsize
    require_memory(size, f"{path}: y", AGAIN, DataError)
    return np.frombuffer(part_of(path, found, size), found.dtype)
