"""Images in Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from cnnspec.data.own import Arrays
from cnnspec.data.store import Store
from cnnspec.data.tables import Table
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import size

Column = tuple[str, Any]  # a name, and pyarrow's column


@register("parquet")
class Parquet(Table):
    """A row an image: a column with its label, and one for each pixel, channel by channel and row by row.

    Pixels may also be lists in one column. Labels are numbers or text. Needs pyarrow.
    """

    train: Annotated[str, "file with the training images, under the root"] = "train.parquet"

    def has_labels(self, path: Path) -> bool:
        """Whether there is another column beside those with pixels."""
        return len(columns_of(path)) not in (1, size(self.shape))

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """The table, a label and pixels a row."""
        self.check_targets()
        columns = columns_of(path)
        self.check_names(str(path), [name for name, _ in columns])
        labelled = columns[self.label_columns]
        pixels = pixels_of(path, [column for column in columns if column not in labelled])
        if pixels.shape[1] != size(self.shape):
            raise self.wrong_count(str(path), pixels.shape[1] + len(labelled))
        found = [_labels(path, *column) for column in labelled]
        named = dict(zip(self.targets, found, strict=False))
        labels = found[0] if named or self.labels == 1 else np.stack(found, axis=1)
        where = f"{path}: {', '.join(name for name, _ in labelled)}"
        return Arrays(pixels.reshape(-1, *self.shape), labels, str(path), where, named=named)


def columns_of(path: Path) -> list[Column]:
    """The columns of a file; DataError where it cannot be read, or pyarrow is not there."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading it needs pyarrow", "pip install 'cnnspec[parquet]'") from error
    try:
        table = parquet.ParquetFile(path).read()
    except Exception as error:  # pyarrow has errors of its own, for which it must be loaded
        raise DataError(f"{path}: cannot be read as a Parquet file: {error}", "save it again") from error
    return list(zip(table.column_names, table.columns, strict=True))


def pixels_of(path: Path, columns: Sequence[Column]) -> Array:
    """The pixels (n, k) of columns of numbers, or of one column of lists; DataError names what is no pixel."""
    if not columns:
        raise DataError(f"{path}: expected columns of pixels, got none", "give a column for each pixel")
    found = [_numbers(path, name, column, alone=len(columns) == 1) for name, column in columns]
    pixels = found[0] if found[0].ndim == 2 else np.stack(found, axis=1)
    wrong = np.argwhere(~((pixels >= 0) & (pixels <= 255)))
    if len(wrong):
        row, place = wrong[0]
        name, _ = columns[place if len(columns) > 1 else 0]
        raise DataError(
            f"{path}: column '{name}', row {row}: expected a pixel, 0 to 255, got {pixels[row, place]:g}",
            "save pixels from 0 to 255, or from 0 to 1",
        )
    return pixels


def _numbers(path: Path, name: str, column: Any, *, alone: bool) -> Array:
    from pyarrow import types

    _refuse_null(path, name, column, "a pixel, 0 to 255")
    kind = column.type
    if alone and (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        rows = column.to_pylist()
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise DataError(
                f"{path}: column '{name}': expected lists of one length, got {min(lengths)} to {max(lengths)}",
                "give every image the same number of pixels",
            )
        values = np.array(rows)
        if values.dtype.kind in "biuf" and values.ndim == 2:
            return values
    elif types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return np.asarray(column.to_numpy())
    raise DataError(
        f"{path}: column '{name}': expected pixels, got {kind}",
        "leave it out, or name the end where the label stands: data.source.label: first or last",
    )


def _labels(path: Path, name: str, column: Any) -> Array:
    from pyarrow import types

    _refuse_null(path, name, column, "a label")
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return np.array(column.to_pylist())
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(column.to_pylist(), str)
    raise DataError(f"{path}: column '{name}': expected numbers or text as labels, got {kind}", "save them so")


def _refuse_null(path: Path, name: str, column: Any, expected: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(
            f"{path}: column '{name}', row {row}: expected {expected}, got nothing", "fill it in, or leave the row out"
        )
