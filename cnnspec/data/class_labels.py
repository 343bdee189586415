"""Class labels in the forms in which people save them, as class names and each image's position among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.data.classes import ordered
from cnnspec.data.source import numbered
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.listing import first_names

ONE = "save one label an image: a whole number or a name"
SHOWN = 8  # labels that a note names
LONGEST = 256  # characters of a label that is a text
NUMBER = re.compile("-?[0-9]{1,18}")  # a whole number that fits 64 bits


def is_number(label: str) -> bool:
    """Tell whether a label is a whole number."""
    return NUMBER.fullmatch(label) is not None


@dataclass(frozen=True, slots=True)
class Labels:
    """The class of image i is names[positions[i]]; `complete` if the data cannot have classes beside these names."""

    positions: Array
    names: tuple[str, ...]
    complete: bool = False

    def among(self, classes: Sequence[str]) -> Array:
        """Return each image's class as its position in `classes`; -1 for a class that is not among them."""
        places = {name: place for place, name in enumerate(classes)}
        return np.array([places.get(name, -1) for name in self.names], np.int64)[self.positions]


def read_labels(array: Array, images: int, subject: str) -> Labels:
    """Read labels (n,), (n, 1) or one-hot (n, k): whole numbers of any type, booleans, or text.

    DataError names the first image whose label is not a valid one.
    """
    if array.ndim == 2 and (array.shape[1] == 1 or array.shape == (1, images)):
        array = array.reshape(-1)
    if array.ndim == 2:
        return _one_hot(array, subject)
    if array.ndim != 1:
        raise DataError(f"{subject}: expected labels (n,), (n, 1) or one-hot (n, k), got {array.shape}", ONE)
    if array.dtype.kind in "US":
        return _text(array, subject)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{subject}: expected whole numbers or text, got {array.dtype}", ONE)
    if array.dtype.kind == "u" and len(array) and array.max() >= 1 << 53:
        raise DataError(f"{subject}: expected classes, got labels up to {array.max()}", ONE)
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.rint(array))))
        if len(wrong):
            value = array[wrong[0]]
            raise DataError(f"{subject}: expected classes, got {value:g} as the label of image {wrong[0]}", ONE)
        if len(array) and np.abs(array).max() >= 1 << 53:
            raise DataError(f"{subject}: expected classes, got labels up to {np.abs(array).max():g}", ONE)
    numbers, positions = np.unique(array.astype(np.int64), return_inverse=True)
    return Labels(positions.reshape(-1), tuple(map(str, numbers.tolist())))


def _one_hot(array: Array, subject: str) -> Labels:
    numeric = array.dtype.kind in "biuf"
    if not numeric or not np.isin(array, (0, 1)).all():
        raise DataError(f"{subject}: expected one label an image or one-hot rows of 0 and 1, got {array.shape}", ONE)
    counts = array.astype(np.int64).sum(axis=1)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        raise DataError(
            f"{subject}: expected one class an image, got {counts[wrong[0]]} for image {wrong[0]}",
            "write data.source.target: classes where an image has any number of them, else save one label an image",
        )
    return Labels(array.argmax(axis=1), numbered(array.shape[1]), complete=True)


def _text(array: Array, subject: str) -> Labels:
    length = array.dtype.itemsize // (4 if array.dtype.kind == "U" else 1)
    if length > LONGEST:
        raise DataError(f"{subject}: expected labels of at most {LONGEST} characters, got up to {length:,}", ONE)
    texts, positions = np.unique(array, return_inverse=True)
    try:
        names = [(text.decode() if isinstance(text, bytes) else text).strip() for text in texts.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{subject}: labels are not UTF-8", "save them as text") from error
    if "" in names:
        image = int(np.flatnonzero(positions.reshape(-1) == names.index(""))[0])
        raise DataError(f"{subject}: the label of image {image} is empty", "fill it in, or leave the image out")
    numbers = [_canonical_number(name) for name in names]
    if all(name is not None for name in numbers):
        names = [name or "" for name in numbers]
    classes = ordered(names)
    order = {name: place for place, name in enumerate(classes)}
    places = np.array([order[name] for name in names], np.int64)
    return Labels(places[positions.reshape(-1)], classes)


def _canonical_number(name: str) -> str | None:
    """Return a whole number as it is usually written, such as 3 for 3.0 and 03; None for any other text."""
    try:
        number = float(name)
    except ValueError:
        return None
    return str(int(number)) if number.is_integer() else None


def class_names(labels: Labels, declared: int | tuple[str, ...] | None, subject: str) -> tuple[tuple[str, ...], str]:
    """Return the class names in the order of the outputs, and a note if they are not simply the numbers from 0."""
    if isinstance(declared, int):
        return numbered(declared), ""
    if declared is not None:
        return declared, ""
    names = labels.names if labels.complete else ordered(labels.names)
    numeric = [is_number(name) for name in names]
    if labels.complete or not any(numeric):
        return names, ""
    if not all(numeric):
        return names, f"{subject}: labels are numbers and names: {first_names(names, SHOWN)}; each is a class"
    numbers = [int(name) for name in names]
    if numbers == list(range(len(numbers))):
        return names, ""
    there = set(numbers)
    missing = next(number for number in range(len(numbers) + 1) if number not in there)
    lacks = f"no image has label {missing}" if missing < max(numbers) else "not all are from 0 on"
    return names, (
        f"{subject}: labels are {first_names(names, SHOWN)}: {lacks}; "
        f"the outputs are these {len(names)} classes in this order "
        f"(data.source.classes: {1 + max(max(numbers), 1)} would number them from 0)"
    )
