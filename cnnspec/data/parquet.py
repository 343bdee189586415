"""Images in Parquet files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from cnnspec.data.decode import tell
from cnnspec.data.own import Arrays
from cnnspec.data.parquet_pictures import decoded, holds_pictures, rules_for
from cnnspec.data.rows import Pixels, in_one
from cnnspec.data.store import Store, Writing, key_of, stamps
from cnnspec.data.tables import Table
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape, size

Column = tuple[str, Any]  # a name, and pyarrow's array
CHUNK = 1 << 22  # values that are read at a time
PAGE = 1 << 16  # bytes of a column that are read from the file at a time
EQUAL = "give every image the same number of pixels"


@register("parquet")
class Parquet(Table):
    """A row an image: a column with its label, and one for each pixel, channel by channel and row by row.

    Pixels may also be lists in one column, or pictures: bytes of PNG, JPEG and other files, as Hugging Face's data sets
    have them, which are brought to `shape`. Labels are numbers or text. Needs pyarrow.
    """

    train: Annotated[str, "file with the training images, under the root"] = "train.parquet"

    def has_labels(self, path: Path) -> bool:
        """Tell whether the file has a column beside those with pixels."""
        return len(names_of(path)) not in (1, size(self.shape))

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read the images and labels of a table, one image in each row."""
        self.check_targets()
        names = names_of(path)
        self.check_names(str(path), names)
        key = key_of("parquet", *stamps([path]), self.shape, self.label, self.label_count)
        stored = store.find(key)
        pixels, record = stored or self._read(path, store, key)
        columns = [record[f"label {place}"] for place in range(self.label_count)]
        named = dict(zip(self.targets, columns, strict=False))
        labels = columns[0] if named or self.labels == 1 else np.stack(columns, axis=1)
        where = f"{path}: {', '.join(names[self.label_columns])}"
        notes = [f"{path}: {note}" for note in tell(Counter(record["conversions"]).elements(), rules_for(self.shape))]
        notes += store.location_note(path, pixels, new=stored is None)
        return Arrays(in_one(pixels), labels, str(path), where, tuple(notes), key, named)

    def _read(self, path: Path, store: Store, key: str) -> tuple[Pixels, Mapping[str, Any]]:
        """Read the table in batches of rows, and keep the numeric type of the pixels."""
        count, batches = int(_opened(path).metadata.num_rows), self._batches(path)
        first = next(batches, None)
        if first is None:
            raise DataError(f"{path}: expected images, got none", "give a file with at least one image")

        def write(out: Writing) -> None:
            labels, conversions = list[list[Array]](), Counter[str]()
            for pixels, columns, converted in chain([first], batches):
                out.add(pixels)
                labels.append(columns)
                conversions.update(converted)
            out.record["conversions"] = dict(conversions)
            out.record.update(
                (f"label {place}", np.concatenate(parts)) for place, parts in enumerate(zip(*labels, strict=True))
            )

        progress = f"{path}: reading {count:,} images"
        return store.make(key, (count, *self.shape), first[0].dtype, progress, write)

    def _batches(self, path: Path) -> Iterator[tuple[Array, list[Array], tuple[str, ...]]]:
        """Yield images (n, c, h, w) of some rows at a time, with their columns of labels and the conversions done."""
        for start, columns in batches_of(path, size(self.shape)):
            labelled = columns[self.label_columns]
            for name, column in labelled:
                if holds_pictures(column.type):
                    other = "last" if self.label == "first" else "first"
                    raise DataError(f"{path}: column '{name}' holds pictures", f"write data.source.label: {other}")
            rest = [column for column in columns if column not in labelled]
            pixels, converted = pixels_of(path, rest, self.shape, start)
            if pixels.shape[1] != size(self.shape):
                raise self.wrong_count(str(path), pixels.shape[1] + len(labelled))
            labels = [_labels(path, *column, start) for column in labelled]
            yield pixels.reshape(-1, *self.shape), labels, converted


def names_of(path: Path) -> list[str]:
    """Return the names of the columns."""
    return list(_opened(path).schema_arrow.names)


def batches_of(path: Path, width: int) -> Iterator[tuple[int, list[Column]]]:
    """Yield the number of the first row and the columns of some rows at a time; a row has about `width` values."""
    file, start = _opened(path), 0
    try:
        # Threads would read many columns ahead, and each holds a page of its own.
        for batch in file.iter_batches(max(1, CHUNK // width), use_threads=False):
            yield start, list(zip(file.schema_arrow.names, batch.columns, strict=True))
            start += batch.num_rows
    except Exception as error:  # pyarrow has errors of its own, for which it must be loaded
        if isinstance(error, DataError):
            raise
        raise _unreadable(path, error) from error


def _opened(path: Path) -> Any:
    """Open a file with pyarrow, page by page; DataError if it is not a Parquet file, or pyarrow is not installed."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading it needs pyarrow", "pip install 'cnnspec[parquet]'") from error
    try:
        return parquet.ParquetFile(path, pre_buffer=False, buffer_size=PAGE)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as a Parquet file: {error}", "save it again")


def pixels_of(path: Path, columns: Sequence[Column], shape: Shape, start: int = 0) -> tuple[Array, tuple[str, ...]]:
    """Return pixels (n, k) from columns of numbers, or one column of lists or of pictures, and the conversions done.

    Pictures are brought to `shape`; `start` is the number of the first row. DataError names a value that is no pixel.
    """
    if not columns:
        raise DataError(f"{path}: expected columns of pixels, got none", "give a column for each pixel")
    if len(columns) == 1 and holds_pictures(columns[0][1].type):
        return decoded(path, *columns[0], start, shape)
    columns_read = [_numbers(path, name, column, start, alone=len(columns) == 1) for name, column in columns]
    pixels = columns_read[0] if columns_read[0].ndim == 2 else np.stack(columns_read, axis=1)
    wrong = np.argwhere(~((pixels >= 0) & (pixels <= 255)))
    if len(wrong):
        row, place = wrong[0]
        name, _ = columns[place if len(columns) > 1 else 0]
        raise DataError(
            f"{path}: column '{name}', row {start + row}: expected a pixel, 0 to 255, got {pixels[row, place]:g}",
            "save pixels from 0 to 255, or from 0 to 1",
        )
    return pixels, ()


def _numbers(path: Path, name: str, column: Any, start: int, *, alone: bool) -> Array:
    from pyarrow import compute

    wanted = "a pixel, 0 to 255"
    _refuse_null(path, name, column, start, wanted)
    kind = column.type
    if alone and _is_list(kind):
        lengths = compute.list_value_length(column).to_numpy()
        if len(column) and lengths.min() != lengths.max():
            message = f"expected lists of one length, got {lengths.min()} to {lengths.max()}"
            raise DataError(f"{path}: column '{name}': {message}", EQUAL)
        values, kind = column.flatten(), kind.value_type
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // int(lengths[0])
            raise _missing_error(path, name, start + row, wanted)
        if _is_numeric(kind):
            return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    elif _is_numeric(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    cure = "leave it out, or name the end where the label stands: data.source.label: first or last"
    if _is_list(kind) and alone:
        cure = "save each image as one list of numbers, channel by channel and row by row"
    elif _is_list(kind) or holds_pictures(kind):
        cure = "save it with the column of labels alone, without others such as an index"
    raise DataError(f"{path}: column '{name}': expected pixels, got {column.type}", cure)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_numeric(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _labels(path: Path, name: str, column: Any, start: int) -> Array:
    from pyarrow import types

    _refuse_null(path, name, column, start, "a label")
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if _is_numeric(kind):
        return np.array(column.to_pylist())
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(column.to_pylist(), str)
    raise DataError(f"{path}: column '{name}': expected numbers or text as labels, got {kind}", "save them so")


def _refuse_null(path: Path, name: str, column: Any, start: int, expected: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise _missing_error(path, name, start + row, expected)


def _missing_error(path: Path, name: str, row: int, expected: str) -> DataError:
    return DataError(
        f"{path}: column '{name}', row {row}: expected {expected}, got nothing", "fill it in, or leave the row out"
    )
