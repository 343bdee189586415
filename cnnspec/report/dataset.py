"""The content of a data set: images of each class, statistics of pixels, labels in words, and some images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnspec.data import Data, Dataset
from cnnspec.kernels.step import Array
from cnnspec.report.chart import shown
from cnnspec.report.sheet import Tile

MOST_CLASSES, OF_EACH, OF_ALL = 30, 10, 60  # numbers shown: classes, images of a class, images without classes
MOST_LINES = 4  # lines of text under an image
MEASURED = 5_000  # images whose pixels are measured


def class_counts(data: Data) -> dict[str, list[int]]:
    """Return the number of images of each class or label, by split; empty if there are no classes."""
    names = data.class_names
    if data.target.kind not in ("class", "classes") or not names:
        return {}
    return {split: _counted(np.asarray(dataset.labels), len(names)) for split, dataset in data.splits.items()}


def _counted(labels: Array, classes: int) -> list[int]:
    of_each = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels.astype(np.int64), minlength=classes)
    return [int(count) for count in of_each]


def pixel_statistics(dataset: Dataset) -> tuple[list[float], list[float], int]:
    """Return mean and deviation of each channel's pixels, 0 to 1, over an even selection of images, and its size."""
    count = min(len(dataset), MEASURED)
    sums, squares, number = 0.0, 0.0, 0
    for chosen in np.array_split(evenly(len(dataset), count), max(1, count // 500)):
        pixels = np.asarray(dataset.pixels[chosen], np.float64) / 255
        sums, squares = sums + pixels.sum(axis=(0, 2, 3)), squares + np.square(pixels).sum(axis=(0, 2, 3))
        number += pixels.size // pixels.shape[1]
    mean = sums / number
    deviation = np.sqrt(np.maximum(0, squares / number - np.square(mean)))
    return np.asarray(mean).tolist(), deviation.tolist(), count


def label_words(data: Data, label: Any) -> tuple[str, ...]:
    """Return a label in words, one for each class or value; empty for a mask, or for several targets."""
    value, names = np.asarray(label), data.class_names
    if data.target.kind == "class" and value.ndim == 0:
        return (names[int(value)] if int(value) < len(names) else str(int(value)),)
    if data.target.kind == "classes" and value.ndim == 1:
        return tuple(name for name, applies in zip(names, value, strict=False) if applies > 0.5) or ("no label",)
    if data.target.kind == "values" and value.ndim == 1:
        return tuple(f"{name} {shown(float(number))}" for name, number in zip(names, value, strict=False))
    return ()


def tiles_of(data: Data) -> tuple[list[Tile], int]:
    """Return an even selection of training images with their labels, and the number of columns to show them in.

    Each class has a row, or, of too many, each of the most frequent; a mask is shown beside its image.
    """
    dataset, counts = data.train, class_counts(data)
    if data.target.kind == "class" and counts:
        labels = dataset.labels
        order = sorted(range(len(data.class_names)), key=lambda number: -counts["train"][number])[:MOST_CLASSES]
        columns = min(OF_EACH, max(counts["train"]))
        rows = [_even_of(np.flatnonzero(labels == number), columns) for number in sorted(order)]
        return [tile for row in rows for tile in _row(data, dataset, row, columns)], columns
    chosen = evenly(len(dataset), min(len(dataset), OF_ALL)).tolist()
    if data.target.kind == "mask":
        pairs = [(Tile(dataset.pixels[i]), Tile(np.asarray(dataset.labels[i]))) for i in chosen[: OF_ALL // 2]]
        return [tile for pair in pairs for tile in pair], OF_EACH
    return [Tile(dataset.pixels[i], label_words(data, dataset.labels[i])[:MOST_LINES]) for i in chosen], OF_EACH


def _row(data: Data, dataset: Dataset, chosen: Sequence[int], columns: int) -> list[Tile]:
    tiles = [Tile(dataset.pixels[i], label_words(data, dataset.labels[i])[:MOST_LINES]) for i in chosen]
    return [*tiles, *[Tile(None)] * (columns - len(tiles))]


def evenly(count: int, wanted: int) -> Array:
    """Return `wanted` evenly spaced whole numbers from 0 to `count` - 1."""
    return np.linspace(0, count - 1, wanted).round().astype(np.int64)


def _even_of(numbers: Array, wanted: int) -> list[int]:
    chosen: list[int] = numbers[evenly(len(numbers), min(len(numbers), wanted))].tolist()
    return chosen
