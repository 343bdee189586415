"""A source of pictures that a table names, with several labels or values for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cnnspec.data.classes import ordered
from cnnspec.data.delimited import rows
from cnnspec.data.labelled_pictures import Entry, LabelledPictures
from cnnspec.data.labels import numbers
from cnnspec.data.store import Store
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.target import Kind

SEPARATORS = "|;"


@register("image_table")
class ImageTable(LabelledPictures):
    """A table with a picture file in its first column and its targets in the other columns; needs Pillow.

    The first line names the columns. With `target: values` or `shares` each further column is a number. With
    `target: classes` there is one column of labels with | or ; between them, or one of 0 and 1 for each class.
    Names of files are relative to the table's folder.
    """

    train: Annotated[str, "table with the training pictures, under the root"] = "train.csv"
    target: Annotated[Literal["values", "classes", "shares"], "what the labels are"]
    classes: Annotated[tuple[str, ...] | None, "names and order of the labels, where they stand in one column"] = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names that the spec declares; empty if it declares none."""
        return self.classes or ()

    @property
    def target_kind(self) -> Kind:
        """The kind of target that the spec declares."""
        return self.target

    def entries(self, place: Path) -> list[Entry]:
        """Return each picture with its row: the column names, the file and line for messages, and the texts."""
        lines = list(rows(place))
        if not lines or len(lines[0][1]) < 2:
            raise DataError(f"{place}: expected columns of files and labels", "name them in the first line: file,label")
        columns = tuple(lines[0][1][1:])
        entries = []
        for number, values in lines[1:]:
            where = f"{place}:{number}"
            if len(values) != len(columns) + 1:
                raise DataError(f"{where}: expected {len(columns) + 1} columns, got {len(values)}", "correct the line")
            file = place.parent / user_path(values[0].replace("\\", "/"))
            if not file.is_file():
                raise DataError(f"{where}: {file}: no such file", "names of files are relative to the table's folder")
            entries.append((file, (columns, where, values[1:])))
        return entries

    def labelled(self, found: Mapping[str, list[Entry]], store: Store) -> tuple[tuple[str, ...], Mapping[str, Array]]:
        """Return the columns as numbers, or one column of lists of labels as 0 or 1 for each label."""
        columns: tuple[str, ...] = found["train"][0][1][0]
        for entries in found.values():
            for _, (other, where, _) in entries[:1]:
                if other != columns:
                    raise DataError(f"{where}: expected the columns {', '.join(columns)}", "name and order them alike")
        if self.target == "classes" and len(columns) == 1:
            return self._listed(found)
        arrays = {split: np.array([_floats(*entry[1:]) for _, entry in entries]) for split, entries in found.items()}
        return columns, {split: numbers(array, self.target, split) for split, array in arrays.items()}

    def _listed(self, found: Mapping[str, list[Entry]]) -> tuple[tuple[str, ...], Mapping[str, Array]]:
        names = self.classes or ordered({name for _, (_, _, values) in found["train"] for name in _split(values[0])})
        labels = {}
        for split, entries in found.items():
            array = np.zeros((len(entries), len(names)), np.float32)
            for row, (_, (_, where, values)) in zip(array, entries, strict=True):
                for name in _split(values[0]):
                    if name not in names:
                        raise DataError(
                            f"{where}: '{name}' is no label of the training pictures", f"there are {', '.join(names)}"
                        )
                    row[names.index(name)] = 1
            labels[split] = array
        return tuple(names), labels


def _split(value: str) -> list[str]:
    separator = next((character for character in SEPARATORS if character in value), SEPARATORS[0])
    return [name for part in value.split(separator) if (name := part.strip())]


def _floats(where: str, values: list[str]) -> list[float]:
    numbers = []
    for position, value in enumerate(values):
        try:
            numbers.append(float(value))
        except ValueError as error:
            raise DataError(
                f"{where}: column {position + 2}: expected a number, got '{value[:20]}'", "correct the line"
            ) from error
    return numbers
