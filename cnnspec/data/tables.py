"""Sources of images in text tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cnnspec.data.delimited import MOST_LINE, as_number, delimiter_of, lines_of, names_columns, opened, rows
from cnnspec.data.own import Arrays, OwnFiles
from cnnspec.data.picture_list import LABELS
from cnnspec.data.rows import Pixels, in_one
from cnnspec.data.store import Store, Writing, key_of, stamps
from cnnspec.diagnostics import DataError
from cnnspec.fields import ImageShape, PositiveInt
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape, size, text

LONGEST = 256  # characters of a label that is a text
CHUNK = 1 << 22  # characters of a table that are read at a time


class Table(OwnFiles):
    """Base of sources of tables: each row is an image, each column a pixel or a label; labels come first or last."""

    shape: Annotated[ImageShape, "channels, height, width"]
    label: Annotated[Literal["first", "last"], "where the label stands"] = "first"
    labels: Annotated[PositiveInt, "columns of labels, where the target is several numbers"] = 1

    @property
    def image_shape(self) -> Shape:
        """The shape that the spec declares."""
        return self.shape

    @property
    def label_count(self) -> int:
        """The number of columns with labels; each of several targets has one."""
        return len(self.targets) or self.labels

    @property
    def label_columns(self) -> slice:
        """The slice of a row that holds the labels."""
        return slice(0, self.label_count) if self.label == "first" else slice(-self.label_count, None)

    def check_targets(self) -> None:
        """Raise DataError if one of several targets needs more than one column."""
        for name, part in self.targets.items():
            if part.kind not in ("class", "values"):
                raise DataError(f"data.source.target: {name} has one column", "make it class or values, or use npz")

    def wrong_count(self, where: str, found: int) -> DataError:
        """Return the error for a row with too few or too many values."""
        noun = "a label" if self.label_count == 1 else f"{self.label_count} labels"
        expected = f"{self.label_count + size(self.shape)} values, {noun} and {text(self.shape)} pixels"
        cure = "correct data.source.shape or the line"
        if found == 1:
            cure = "give a line an image, with commas, semicolons or tabs between its values"
        return DataError(f"{where}: expected {expected}, got {found}", cure)

    def check_names(self, where: str, names: Sequence[str]) -> None:
        """Raise DataError if the column names show that the label is in another column, or that rows are numbered."""
        lower = [name.lower() for name in names]
        if len(names) == 1 + self.label_count + size(self.shape) and lower[0] in ("", "index", "id", "unnamed: 0"):
            raise DataError(
                f"{where}: the first column holds the numbers of the rows",
                "save the table without its index: index=False of pandas",
            )
        named = [place for place, name in enumerate(lower) if name in LABELS]
        place = len(names) - 1 if self.label == "last" else 0
        if self.label_count == 1 and len(named) == 1 and named != [place]:
            end = {0: "first", len(names) - 1: "last"}.get(named[0])
            raise DataError(
                f"{where}: '{names[named[0]]}' is column {named[0] + 1}, not the {self.label} one",
                f"write data.source.label: {end}" if end else "put the labels into the first column",
            )


@register("csv")
class Csv(Table):
    """A line an image: its label, and its pixels channel by channel and row by row; gzipped or not.

    Values stand between commas, semicolons or tabs, quoted or not; beside semicolons and tabs a comma is a decimal
    one. The file is UTF-8, or has a byte order mark. Several targets by name, `{color: class, size: values}`, have a
    column each, in their order.
    """

    train: Annotated[str, "file with the training images, under the root"] = "train.csv"
    header: Annotated[bool | None, "whether the first line names the columns; seen by its values"] = None

    def has_labels(self, path: Path) -> bool:
        """Tell whether a line has more values than pixels."""
        return len(next(rows(path), (0, []))[1]) != size(self.shape)

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read the images and labels of a table, one image in each line."""
        self.check_targets()
        form = self._form(path)
        key = key_of("csv", *stamps([path]), form, self.shape, self.label, self.label_count, self.target_kind)
        stored = store.find(key)
        pixels, record = stored or self._read(path, form, store, key)
        labels, notes = record["labels"], store.location_note(path, pixels, new=stored is None)
        named = {name: _plain(labels[:, i]) for i, name in enumerate(self.targets)}
        return Arrays(in_one(pixels), labels, str(path), str(path), tuple(notes), key, named)

    def _read(self, path: Path, form: _Form, store: Store, key: str) -> tuple[Pixels, Mapping[str, Any]]:
        """Read the lines in chunks: as bytes, or as floats if a pixel is no whole number or none exceeds 1."""
        count = sum(1 for _ in form.lines(path))
        progress, why = f"{path}: reading {count:,} images", ""
        for dtype in (np.uint8, np.float64):
            write = partial(self._write, path, form, dtype)
            try:
                return store.make(key, (count, *self.shape), dtype, progress, write)
            except ValueError as error:
                why = str(error)
        raise self._fault(path, form, why)

    def _write(self, path: Path, form: _Form, dtype: type, out: Writing) -> None:
        """Write all images, and their labels to the record; ValueError if the pixels are not of that type."""
        fields = [("labels", f"U{LONGEST + 1}", (self.label_count,)), ("pixels", dtype, (size(self.shape),))]
        kind = np.dtype(fields[::-1] if self.label == "last" else fields)
        texts, highest = [], 0.0
        for lines in form.chunks(path):
            table = np.loadtxt(lines, kind, delimiter=form.delimiter, ndmin=1, comments=None, quotechar='"')
            labels, pixels = table["labels"], table["pixels"]
            low, high = pixels.min(), pixels.max()
            if not (low >= 0 and high <= 255):
                raise ValueError("not all pixels are numbers from 0 to 255")
            highest = max(highest, high)
            texts.append(labels.astype(f"U{max(1, np.char.str_len(labels).max())}"))
            out.add(pixels.reshape(-1, *self.shape))
        if dtype is np.uint8 and highest <= 1:
            raise ValueError("none is above 1")
        out.record["labels"] = _plain(np.concatenate(texts))
        if out.record["labels"].dtype.kind == "U" and self.target_kind not in (None, "class", "several"):
            raise ValueError("not all labels are numbers")

    def _form(self, path: Path) -> _Form:
        """Find the delimiter and the first line with an image; DataError if `header` or `label` says otherwise."""
        number, values = next(rows(path), (0, []))
        if not values:
            raise DataError(f"{path}: expected images, got none", "give a file with at least one image")
        form = _Form(delimiter_of(path), number)
        pixels = values[: -self.label_count] if self.label == "last" else values[self.label_count :]
        seen = names_columns(pixels, form.delimiter)
        if self.header and not seen:
            raise DataError(
                f"{path}:{number}: expected the names of the columns, as header: true says, got numbers",
                "leave data.source.header out",
            )
        if self.header is False and seen:
            raise DataError(
                f"{path}:{number}: expected an image, as header: false says, got names of columns",
                "leave data.source.header out",
            )
        if not seen:
            return form
        self.check_names(f"{path}:{number}", values)
        return _Form(form.delimiter, number + 1)

    def _fault(self, path: Path, form: _Form, why: str) -> DataError:
        """Read the table again, and return the error of the first line that is wrong."""
        expected = self.label_count + size(self.shape)
        places = range(self.label_count) if self.label == "first" else range(expected - self.label_count, expected)
        numeric = self.target_kind not in (None, "class", "several")
        for number, values in rows(path):
            if number < form.first:
                continue
            if len(values) != expected:
                return self.wrong_count(f"{path}:{number}", len(values))
            for position, value in enumerate(values):
                found = as_number(value, form.delimiter)
                where = f"{path}:{number}: column {position + 1}"
                if position in places and numeric and found is None:
                    return DataError(f"{where}: expected a number, got '{value[:20]}'", "give numbers only")
                if position not in places and not (found is not None and 0 <= found <= 255):
                    cure = "save pixels from 0 to 255, or from 0 to 1"
                    if found is None and position == (expected - 1 if self.label == "first" else 0):
                        end = "last" if self.label == "first" else "first"
                        cure = f"write data.source.label: {end} where the labels stand there, or {cure}"
                    return DataError(f"{where}: expected a pixel, 0 to 255, got '{value[:20]}'", cure)
        return DataError(f"{path}: {why}", "give a table of numbers, an image a line")


def _plain(labels: Array) -> Array:
    """Return labels as numbers if all of them are numbers, else as texts."""
    try:
        return labels.astype(np.float64)
    except ValueError:
        return labels


@dataclass(frozen=True, slots=True)
class _Form:
    """The format of a table: its delimiter, and the number of the first line with an image."""

    delimiter: str
    first: int

    def lines(self, path: Path) -> Iterator[str]:
        """Yield the lines with images; decimal commas are replaced by points."""
        with opened(path) as file:
            for number, line in enumerate(lines_of(file, path), 1):
                if number >= self.first and line.strip():
                    yield line if self.delimiter == "," else line.replace(",", ".")

    def chunks(self, path: Path) -> Iterator[list[str]]:
        """Yield the lines in chunks; a line break within quotes ends none."""
        chunk, length, quotes = list[str](), 0, 0
        for line in self.lines(path):
            chunk.append(line)
            length += len(line)
            quotes += line.count('"')
            if length >= CHUNK and (quotes % 2 == 0 or length >= MOST_LINE):
                yield chunk
                chunk, length = [], 0
        if chunk:
            yield chunk
