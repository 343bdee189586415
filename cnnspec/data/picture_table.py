"""A source of pictures that a table names, with several labels or values for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cnnspec.data.classes import ordered
from cnnspec.data.delimited import as_number, delimiter_of, rows
from cnnspec.data.labelled_pictures import Entry, Labelled, LabelledPictures
from cnnspec.data.labels import numbers
from cnnspec.data.picture_list import file_column, has_labels, located, missing
from cnnspec.data.store import Store
from cnnspec.diagnostics import DataError
from cnnspec.registry import register
from cnnspec.target import Kind

SEPARATORS = "|;,"


@register("image_table")
class ImageTable(LabelledPictures):
    """A table with a picture file in one column and its targets in the other columns; needs Pillow.

    The first line names the columns; that of the files is `file`, `path`, `image` or their like. With `target: values`
    or `shares` each further column is a number. With `target: classes` there is one column of labels with |, ; or
    a comma (in quotes) between them, or one of 0 and 1 for each class. Names of files are relative to the table's
    folder.
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

    def has_labels(self, place: Path) -> bool:
        """Tell whether a table has columns beside that of the files."""
        return has_labels(place)

    def entries(self, place: Path) -> list[Entry]:
        """Return each picture with its row: the column names, the file and line for messages, and the texts."""
        lines = list(rows(place))
        if not lines or len(lines[0][1]) < 2:
            raise DataError(f"{place}: expected columns of files and labels", "name them in the first line: file,label")
        file, named = file_column(place, [values for _, values in lines[:2]]) or (0, True)
        if not named:
            raise DataError(
                f"{place}:{lines[0][0]}: expected the names of the columns, got a picture",
                f"write them into a line above: file{''.join(f',label{n}' for n in range(1, len(lines[0][1])))}",
            )
        header, entries = lines[0][1], list[Entry]()
        columns = tuple(header[:file] + header[file + 1 :])
        separator = delimiter_of(place)
        for number, values in lines[1:]:
            where = f"{place}:{number}"
            if len(values) != len(header):
                raise DataError(f"{where}: expected {len(header)} columns, got {len(values)}", "correct the line")
            path = located(place, values[file])
            if not path.is_file() and self.on_error == "stop":
                raise missing(where, place, values[file])
            texts = values[:file] + values[file + 1 :]
            entries.append((path, _Row(columns, where, separator, texts)))
        return entries

    def labelled(self, found: Mapping[str, list[Entry]], store: Store) -> Labelled:
        """Return the columns as numbers, or one column of lists of labels as 0 or 1 for each label."""
        read = {split: [row for _, row in entries] for split, entries in found.items()}
        columns: tuple[str, ...] = read["train"][0].columns
        for first, *_ in read.values():
            if first.columns != columns:
                raise DataError(
                    f"{first.where}: expected the columns {', '.join(columns)}", "name and order them alike"
                )
        if self.target == "classes" and len(columns) == 1:
            return self._label_lists(read)
        arrays = {split: np.array([row.numbers() for row in parts]) for split, parts in read.items()}
        tables = {split: parts[0].where.rpartition(":")[0] for split, parts in read.items()}
        return columns, {split: numbers(array, self.target, tables[split]) for split, array in arrays.items()}, []

    def _label_lists(self, found: Mapping[str, list[_Row]]) -> Labelled:
        names = self.classes or ordered({name for row in found["train"] for name in _split(row.texts[0])})
        labels = {}
        for split, parts in found.items():
            array = np.zeros((len(parts), len(names)), np.float32)
            for yes, row in zip(array, parts, strict=True):
                for name in _split(row.texts[0]):
                    if name not in names:
                        raise DataError(
                            f"{row.where}: '{name}' is no label of the training pictures",
                            f"there are {', '.join(names)}",
                        )
                    yes[names.index(name)] = 1
            labels[split] = array
        return tuple(names), labels, []


@dataclass(frozen=True, slots=True)
class _Row:
    """The labels of one picture as texts, by the names of their columns; the file and line for messages."""

    columns: tuple[str, ...]
    where: str
    delimiter: str
    texts: list[str]

    def numbers(self) -> list[float]:
        """Return the labels as numbers; DataError names the column of one that is none."""
        values = []
        for column, label in zip(self.columns, self.texts, strict=True):
            number = as_number(label, self.delimiter)
            if number is None:
                raise DataError(
                    f"{self.where}: column '{column}': expected a number, got '{label[:20]}'",
                    "correct the line or remove it",
                )
            values.append(number)
        return values


def _split(value: str) -> list[str]:
    separator = next((character for character in SEPARATORS if character in value), SEPARATORS[0])
    return [name for part in value.split(separator) if (name := part.strip())]
