"""Images in NumPy archives and in tables of text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cnnspec.data.labels import kind_of
from cnnspec.data.own import OwnFiles
from cnnspec.data.source import Images
from cnnspec.diagnostics import DataError
from cnnspec.fields import ImageShape, PositiveInt
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape, size, text

BYTES = "save pixels 0..255 as uint8"


@register("npz")
class Npz(OwnFiles):
    """NumPy archives of x and y, or images and labels; one archive with x_train, y_train, x_test, y_test serves both.

    Images are bytes (n, h, w), (n, c, h, w) or, with `layout: nhwc`, (n, h, w, c). Pickled objects are refused.
    """

    train: Annotated[str, "archive with the training images, under the root"] = "train.npz"
    layout: Annotated[Literal["nchw", "nhwc"], "order of the axes of images with channels"] = "nchw"
    shape: Annotated[ImageShape | None, "channels, height, width; the spec is checked with it before files are"] = None

    @property
    def image_shape(self) -> Shape | None:
        """What the spec says."""
        return self.shape

    def read_file(self, path: Path, split: str) -> Images:
        """Two arrays of an archive."""
        try:
            with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
                names = _keys(path, archive.files, split)
                pixels, labels = (_member(archive, name, path) for name in names)
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib, tokenize and ast raise what they like on damaged bytes
            raise DataError(
                f"{path}: cannot be read as an .npz archive: {error}", "save it with numpy.savez"
            ) from error
        return Images(self._pixels(pixels, f"{path}: {names[0]}"), self._labels(labels, f"{path}: {names[1]}"))

    def _labels(self, labels: Array, what: str) -> Array:
        return labels if kind_of(labels, self.target) != "class" else _labels(labels, what)

    def _pixels(self, pixels: Array, what: str) -> Array:
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
            raise DataError(f"{what}: expected bytes (n, h, w) or (n, c, h, w), got {_kind(pixels)}", BYTES)
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        elif self.layout == "nhwc":
            pixels = pixels.transpose(0, 3, 1, 2)
        check_shape(pixels.shape[1:], self.shape, what)
        return np.ascontiguousarray(pixels)


def _keys(path: Path, present: list[str], split: str) -> tuple[str, str]:
    pairs = ((f"x_{split}", f"y_{split}"), ("x", "y"), ("images", "labels"))
    for pair in pairs:
        if set(pair) <= set(present):
            return pair
    wanted = ", ".join(" and ".join(pair) for pair in pairs)
    raise DataError(f"{path}: expected arrays {wanted}, got {', '.join(present) or 'none'}", "save it with these names")


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise DataError(f"{path}: {name} holds pickled objects, which are refused", BYTES) from error
        raise


def _labels(labels: Array, what: str) -> Array:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{what}: expected whole numbers (n,), got {_kind(labels)}", "save one label an image")
    return labels.astype(np.int64)


def _kind(array: Array) -> str:
    return f"{array.dtype} {array.shape}"


def check_shape(shape: Shape, declared: Shape | None, what: str) -> None:
    """DataError where images do not have the shape that the spec declares."""
    if declared is not None and shape != declared:
        raise DataError(
            f"{what}: expected images of {text(declared)}, which is the source's shape, got {text(shape)}",
            "correct data.source.shape, or give other images",
        )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


@register("csv")
class Csv(OwnFiles):
    """A line an image: its label and its pixels 0..255, channel by channel and row by row; gzipped or not."""

    train: Annotated[str, "file with the training images, under the root"] = "train.csv"
    shape: Annotated[ImageShape, "channels, height, width"]
    label: Annotated[Literal["first", "last"], "where the label stands"] = "first"
    labels: Annotated[PositiveInt, "columns of labels, where the target is several numbers"] = 1
    header: Annotated[bool, "whether the first line names the columns"] = False

    @property
    def image_shape(self) -> Shape:
        """What the spec says."""
        return self.shape

    def read_file(self, path: Path, split: str) -> Images:
        """The table, a label and then pixels."""
        import warnings
        import zlib

        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a file without a line
                kind = np.int16 if self._of_classes else np.float64
                table = np.loadtxt(path, kind, delimiter=",", skiprows=int(self.header), ndmin=2, comments=None)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read: {error}", "give a table of numbers with commas") from error
        except ValueError as error:
            raise self._fault(path, str(error)) from error
        if len(table) == 0:
            raise DataError(f"{path}: expected images, got none", "give a file with at least one image")
        if table.shape[1] != self.labels + size(self.shape):
            raise self._fault(path, "not a table of numbers")
        columns = slice(0, self.labels) if self.label == "first" else slice(-self.labels, None)
        labels, pixels = table[:, columns], np.delete(table, columns, axis=1)
        if self._of_classes:
            labels = labels[:, 0].astype(np.int64)
        bytes_only = pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 255 and (pixels == np.rint(pixels)).all()
        if not bytes_only or (self._of_classes and labels.min() < 0):
            raise self._fault(path, "not bytes")
        return Images(pixels.astype(np.uint8).reshape(-1, *self.shape), labels)

    @property
    def _of_classes(self) -> bool:
        return self.target in (None, "class")

    def _fault(self, path: Path, why: str) -> DataError:
        """The first line that is not as it must be, found by reading once more."""
        import gzip

        expected = self.labels + size(self.shape)
        places = range(self.labels) if self.label == "first" else range(expected - self.labels, expected)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                values = line.strip().split(",")
                if (self.header and number == 1) or values == [""]:
                    continue
                if len(values) != expected:
                    what = "a label" if self.labels == 1 else f"{self.labels} labels"
                    message = f"expected {expected} numbers, {what} and {text(self.shape)} pixels, got {len(values)}"
                    return DataError(f"{path}:{number}: {message}", "correct data.source.shape or the line")
                for position, value in enumerate(values):
                    if position in places and not self._of_classes:
                        if not _is_number(value):
                            message = f"column {position + 1}: expected a number, got '{value[:20]}'"
                            return DataError(f"{path}:{number}: {message}", "give numbers with a decimal point")
                        continue
                    what, largest = ("label", 32767) if position in places else ("pixel", 255)
                    if not value.strip(" ").isdecimal() or int(value) > largest:
                        message = f"column {position + 1}: expected a {what}, 0 to {largest}, got '{value[:20]}'"
                        help = "write header: true where the first line names the columns" if number == 1 else BYTES
                        if what == "label" and _is_number(value):
                            help = "write target: values in data.source where the label is a number to predict"
                        return DataError(f"{path}:{number}: {message}", help)
        return DataError(f"{path}: {why}", "give a table of numbers with commas")
