"""From the `data` section to images that are ready to be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnspec.data.settings import DataSettings
from cnnspec.data.source import Images
from cnnspec.data.split import stratified
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split: pixels (n, c, h, w) as bytes behind the geometric transforms, labels (n,)."""

    pixels: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Data:
    """All splits of a source, cut by the seed, stratified, without overlap."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    checksums: dict[str, str]

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def data_shape(settings: DataSettings) -> Shape:
    """The shape of an image behind the transforms, without reading a file; ShapeError where one does not fit."""
    shape: Shape = settings.source.image_shape
    for transform in settings.preprocess:
        shape = transform.infer_shape(shape)
    return shape


def class_names(settings: DataSettings) -> tuple[str, ...]:
    """The names of the classes, by label."""
    names: tuple[str, ...] = settings.source.classes
    return names


def class_count(settings: DataSettings) -> int:
    """How many classes the source has."""
    return len(class_names(settings))


def open_data(settings: DataSettings, *, seed: int, data_dir: Path | None = None, download: bool = False) -> Data:
    """Read, check, cut and transform; DataError with what is missing or damaged, where, and what to do."""
    root = data_dir or (Path(settings.root) if settings.root else None)
    read, checksums = settings.source.read(root, download)
    train, validation = read["train"], None
    if settings.validation is not None:
        count = _validation_count(settings, len(train.labels))
        chosen = stratified(train.labels, count, seed)
        rest = np.setdiff1d(np.arange(len(train.labels)), chosen)
        validation, train = _take(train, chosen), _take(train, rest)
    return Data(
        _finish(settings, _limited(train, settings.train.limit, seed, "train")),
        _finish(settings, validation) if validation else None,
        _finish(settings, _limited(read["test"], settings.test.limit, seed, "test")),
        checksums,
    )


def _validation_count(settings: DataSettings, available: int) -> int:
    assert settings.validation is not None
    if settings.validation.limit and settings.validation.fraction is not None:
        raise DataError("data.validation: expected fraction or limit, got both", "remove one of the two")
    count = settings.validation.limit or round((settings.validation.fraction or 0.0) * available)
    if not 0 < count < available:
        raise DataError(
            f"data.validation: expected 1 to {available - 1} of the {available} training images, got {count}",
            "set data.validation.fraction to a number such as 0.1",
        )
    return count


def _limited(images: Images, limit: int | None, seed: int, split: str) -> Images:
    if limit is None or limit == len(images.labels):
        return images
    if limit > len(images.labels):
        raise DataError(
            f"data.{split}.limit: expected at most {len(images.labels)}, which is all there are, got {limit}",
            "lower the limit or leave it out",
        )
    return _take(images, stratified(images.labels, limit, seed))


def _take(images: Images, indices: Array) -> Images:
    return Images(images.pixels[indices], images.labels[indices])


def _finish(settings: DataSettings, images: Images) -> Dataset:
    pixels = images.pixels
    for transform in settings.preprocess:
        pixels = transform.apply(pixels)
    return Dataset(pixels, images.labels)
