"""The images that a trained network is asked about: files, folders, patterns and tables become prepared images."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cnnspec.data.delimited import as_number, delimiter_of, names_columns, rows
from cnnspec.data.idx import is_idx, read_idx
from cnnspec.data.npz import PLAIN, images_name, member, opened
from cnnspec.data.parquet import batches_of, pixels_of
from cnnspec.data.picture_files import SUFFIXES, files_in, is_table
from cnnspec.data.picture_list import file_column, located
from cnnspec.data.pipeline import Pipeline
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path
from cnnspec.kernels.step import Array
from cnnspec.shapes import size, text

ARRAYS = frozenset({".npy", ".npz", ".parquet"})
KINDS_OF_FILES = "give pictures, tables (.csv, .parquet) or arrays (.npy, .npz, IDX); unpack an archive"
LINES = 4096  # lines of a table that are read at a time


@dataclass(frozen=True, slots=True)
class Asked:
    """Prepared images (n, c, h, w), their names and the conversions done; or the error of an unreadable file."""

    names: Sequence[str] = ()
    images: Array | None = None
    conversions: tuple[str, ...] = ()
    error: DataError | None = None


def expanded(words: Iterable[str]) -> Iterator[Path | DataError]:
    """Yield the files that words name: the file itself, pictures and arrays below a folder, the matches of a pattern.

    For a word that names nothing, an error takes the place of the file.
    """
    for word in words:
        try:
            yield from _named_by(word)
        except OSError as error:
            yield DataError(f"{word}: {error.strerror}", "name pictures, arrays, tables, folders or patterns")


def read_asked(paths: Sequence[Path], pipeline: Pipeline, batch: int, threads: int) -> Iterator[Asked]:
    """Read files in their order, pictures in batches on several threads; an unreadable file yields its error."""
    waiting = iter(paths)
    while chunk := list(islice(waiting, batch)):
        with ThreadPoolExecutor(threads) as pool:
            # The threads have ended before the network computes: its workers may be forked.
            pictures = list(pool.map(lambda path: _picture(path, pipeline), chunk))
        for path, picture in zip(chunk, pictures, strict=True):
            if picture is not None:
                yield picture
            else:
                yield from _others(path, pipeline, batch, threads)


def _named_by(word: str) -> Iterator[Path | DataError]:
    path = user_path(word)
    if path.is_dir():
        yield from _in_folder(path)
    elif path.exists():
        yield _file(path)
    elif glob.has_magic(word):
        paths = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not paths:
            yield DataError(f"{word}: no file matches", "patterns are *, ?, [abc], and ** for any depth")
        for match in paths:
            if match.is_dir():
                yield from _in_folder(match)
            else:
                yield _file(match)
    else:
        yield DataError(f"{word}: no such file", "name pictures, arrays, tables, folders or patterns")


def _file(path: Path) -> Path | DataError:
    """Return the path of a regular file; DataError as a value for a pipe or device, which might never end."""
    if path.is_file():
        return path
    return DataError(f"{path}: it is a pipe or a device, not a file", "save what comes from there as a file")


def _in_folder(folder: Path) -> Iterator[Path | DataError]:
    empty = True
    try:
        for path in files_in(folder):
            if path.suffix.lower() in SUFFIXES | ARRAYS:
                empty = False
                yield _file(path)
    except DataError as error:
        yield error
        return
    if empty:
        yield DataError(f"{folder}: no picture and no array in this folder", "name another folder, or the files")


def _picture(path: Path, pipeline: Pipeline) -> Asked | None:
    """Return the image of a picture file; None for a file that is none by its name."""
    if pipeline.inputs or path.suffix.lower() not in SUFFIXES:
        return None
    try:
        images, conversions = pipeline.picture(path)
    except DataError as error:
        return Asked(error=error)
    return Asked((str(path),), images, conversions)


def _others(path: Path, pipeline: Pipeline, batch: int, threads: int) -> Iterator[Asked]:
    try:
        if pipeline.inputs:
            yield _with_name(str(path), pipeline.images(_by_name(path, pipeline)), ())
        elif path.suffix.lower() == ".parquet":
            yield from _rows(path, pipeline)
        elif path.suffix.lower() in ARRAYS:
            yield _with_name(str(path), *pipeline.array(_array(path), str(path)))
        elif is_table(path):
            yield from _table(path, pipeline, batch, threads)
        else:
            yield _of_any_name(path, pipeline)
    except DataError as error:
        yield Asked(error=error)


def _of_any_name(path: Path, pipeline: Pipeline) -> Asked:
    """Return the images of a file whose name does not tell its kind: of the run's source, IDX, or a picture."""
    images = pipeline.source.images_in(path)
    if images is None and is_idx(path):
        images, _ = read_idx(path)
    if images is not None:
        return _with_name(str(path), *pipeline.array(images, str(path)))
    try:
        return Asked((str(path),), *pipeline.picture(path))
    except DataError as error:
        return Asked(error=DataError(str(error), KINDS_OF_FILES))


def _with_name(name: str, images: Array, conversions: tuple[str, ...]) -> Asked:
    names = [name] if len(images) == 1 else [f"{name}[{index}]" for index in range(len(images))]
    return Asked(names, images, conversions)


def _numbered(path: Path, start: int, images: Array, conversions: tuple[str, ...]) -> Asked:
    """Return images of a table with their names, such as FILE[12]; the first image is that of row `start`."""
    return Asked([f"{path}[{start + row}]" for row in range(len(images))], images, conversions)


def _by_name(path: Path, pipeline: Pipeline) -> dict[str, Array]:
    """Return the arrays in an archive that are named like the network's inputs, without others such as labels."""
    inputs = pipeline.inputs
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path}: the network has several inputs, {inputs}", "give .npz archives with these arrays")
    with opened(path) as archive:
        return {name: member(archive, name, path) for name in inputs.shapes if name in archive.files}


def _array(path: Path) -> Array:
    """Return the array of a .npy file, or the images of a .npz archive; pickled objects are refused."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".npy":
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
                return member(archive, images_name(path, archive.files), path)
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and ast raise what they like on damaged bytes
        if "pickle" in str(error).lower():
            raise DataError(f"{path}: holds pickled objects, which are refused", PLAIN) from error
        raise DataError(f"{path}: cannot be read as an array: {error}", "save it with numpy.save") from error


def _rows(path: Path, pipeline: Pipeline) -> Iterator[Asked]:
    """Yield the images of a Parquet file, which may also have a column of labels."""
    shape = pipeline.shape or pipeline.input
    for start, columns in batches_of(path, size(shape)):
        if len(columns) in (2, size(shape) + 1):
            columns = columns[:-1] if pipeline.label == "last" else columns[1:]
        pixels, converted = pixels_of(path, columns, shape, start)
        if pixels.shape[1] != size(shape):
            raise DataError(
                f"{path}: expected {size(shape):,} pixels of {text(shape)} and perhaps a label, "
                f"got {pixels.shape[1]:,}",
                "give images as the network was trained on",
            )
        images, conversions = pipeline.array(pixels.reshape(-1, *shape), str(path))
        yield _numbered(path, start, images, (*converted, *conversions))


def _table(path: Path, pipeline: Pipeline, batch: int, threads: int) -> Iterator[Asked]:
    """Yield the images of a text table: each line holds all pixels of one, with or without a label, or names a file."""
    lines = rows(path)
    head = list(islice(lines, 2))
    if not head:
        raise DataError(f"{path}: expected images, got none", "give a file with at least one image")
    files = file_column(path, [values for _, values in head])
    if files is not None:
        column, named = files
        rest = chain(head[named:], lines)
        yield from read_asked([located(path, _of(values, column)) for _, values in rest], pipeline, batch, threads)
        return
    delimiter = delimiter_of(path)
    if len(head) == 2 and names_columns(_pixels_of(head[0][1], pipeline), delimiter):
        del head[0]
    index, waiting = 0, chain(head, lines)
    while chunk := list(islice(waiting, LINES)):
        pixels = np.stack([_pixels(path, line, values, delimiter, pipeline) for line, values in chunk])
        images, conversions = pipeline.array(pixels, str(path))
        yield _numbered(path, index, images, conversions)
        index += len(images)


def _pixels(path: Path, line: int, values: list[str], delimiter: str, pipeline: Pipeline) -> Array:
    """Return the image (c, h, w) of one line of a table, without its label."""
    shape = pipeline.shape or pipeline.input
    expected, columns = size(shape), len(values)
    values = _pixels_of(values, pipeline)
    start = 2 if len(values) < columns and pipeline.label != "last" else 1
    if len(values) != expected:
        raise DataError(
            f"{path}:{line}: expected {expected:,} pixels of {text(shape)} and perhaps a label, got {len(values):,}",
            "give images as the network was trained on",
        )
    pixels = [as_number(value, delimiter) for value in values]
    if None in pixels:
        place = pixels.index(None)
        where = f"{path}:{line}: column {start + place}"
        raise DataError(f"{where}: expected a pixel, got '{values[place][:20]}'", "give a table of numbers")
    return np.array(pixels, np.float64).reshape(shape)


def _pixels_of(values: list[str], pipeline: Pipeline) -> list[str]:
    """Leave the label out of a line that has one value more than an image has pixels."""
    if len(values) != size(pipeline.shape or pipeline.input) + 1:
        return values
    return values[:-1] if pipeline.label == "last" else values[1:]


def _of(values: Sequence[str], column: int) -> str:
    """Return the value of a column; a shorter line names no file."""
    return values[column] if column < len(values) else ""
