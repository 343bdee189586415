"""Images in NumPy's files: archives of arrays, and single arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cnnspec.data.arrays import from_rows
from cnnspec.data.download import file_checksum
from cnnspec.data.inputs import Inputs
from cnnspec.data.own import Arrays, OwnFiles, check_shape
from cnnspec.data.picture_files import SUFFIXES
from cnnspec.data.rows import in_one
from cnnspec.data.source import Found
from cnnspec.data.store import BLOCK, MEMORY, Store, Writing, key_of, stamps
from cnnspec.diagnostics import DataError
from cnnspec.fields import Byte, ImageShape
from cnnspec.kernels.step import Array
from cnnspec.listing import first_names
from cnnspec.memory import require_memory
from cnnspec.registry import register
from cnnspec.shapes import Shape, size, text

CHANNELS = (1, 3, 4)  # numbers of channels: grey, colour, colour with transparency
WORDS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGES, LABELS = ("x", "images", "image", "imgs", "data", "pixels"), ("y", "labels", "label", "targets", "target")
FORMS = ("{0}_{1}", "{1}_{0}", "{0}{1}")  # names of an array, of what it holds and its split
SHOWN = 12  # names in an archive that a message lists
PLAIN = "save pixels 0..255 as uint8, labels as whole numbers or fixed-width text"


class ArrayFiles(OwnFiles):
    """Base of sources whose files hold arrays (n, h, w), (n, c, h, w), (n, h, w, c), or rows of pixels with `shape`."""

    layout: Annotated[
        Literal["nchw", "nhwc"] | None, "order of the axes of images with channels; found where it is certain"
    ] = None
    ignore: Annotated[Byte | None, "of masks the number that pixels of no class have, which nothing counts"] = None
    shape: Annotated[ImageShape | None, "channels, height, width; the spec is checked with it before files are"] = None

    @property
    def image_shape(self) -> Shape | None:
        """The shape that the spec declares, if any."""
        return self.shape

    def arranged(self, pixels: Array, subject: str) -> tuple[Array, tuple[str, ...]]:
        """Return images as (n, c, h, w), and a note if channels were found to be last."""
        notes: tuple[str, ...] = ()
        if pixels.ndim == 2 and self.shape is not None and pixels.shape[1] == size(self.shape):
            if self.layout is None and self.shape[0] > 1:
                read = (
                    f"{subject}: rows of {pixels.shape[1]:,} values are read as {text(self.shape)}, channel by channel"
                )
                notes = (f"{read} (data.source.layout: nchw; nhwc: pixel by pixel)",)
            pixels = from_rows(pixels, self.shape, self.layout or "nchw")
        elif pixels.ndim == 3:
            pixels = pixels[:, None]
        elif pixels.ndim == 4:
            layout = self.layout or _layout(pixels.shape[1:], self.shape, subject)
            if layout == "nhwc":
                if self.layout is None:
                    notes = (f"{subject}: {pixels.shape} is read with channels last (data.source.layout: nhwc)",)
                pixels = pixels.transpose(0, 3, 1, 2)
        else:
            raise DataError(
                f"{subject}: expected images (n, h, w), (n, c, h, w) or (n, h, w, c), got {pixels.shape}",
                _shape_cure(pixels),
            )
        check_shape(pixels.shape[1:], self.shape, subject)
        return pixels, notes


def _shape_cure(pixels: Array) -> str:
    if pixels.ndim != 2:
        return "give an array of images with one axis for the images"
    count = pixels.shape[1]
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if channels * side * side == count:
            others = "or with other numbers of channels, rows and columns"
            return f"say what a row of {count:,} values is: data.source.shape: [{channels}, {side}, {side}], {others}"
    return f"say what a row of {count:,} values is: data.source.shape: [channels, height, width]"


def _layout(found: Shape, declared: Shape | None, subject: str) -> str:
    """Return `nchw` or `nhwc` if the declared shape, the channels or equal sides decide; DataError if they do not."""
    a, b, c = found
    turned = (c, a, b)
    for first, last in (
        (found == declared, turned == declared),
        (a in CHANNELS, c in CHANNELS),
        (b == c != a, a == b != c),
    ):
        if first != last:
            return "nchw" if first else "nhwc"
    raise DataError(
        f"{subject}: {text(found)} may be channels first or last",
        "write data.source.layout: nchw where channels come first, or layout: nhwc where they come last",
    )


@register("npz")
class Npz(ArrayFiles):
    """NumPy archives of x and y, images and labels, x_train and y_train, train_images and train_labels, ....

    One archive may hold all splits. Images are (n, h, w), (n, c, h, w) or (n, h, w, c) of any numeric type, labels
    whole numbers or text. With several targets by name, `{color: class, size: values}`, the arrays of labels have these
    names: color, or color_train and color_test; the arrays of several inputs have the names of these. Pickled objects
    are refused.
    """

    several_inputs = True
    train: Annotated[str, "archive with the training images, under the root"] = "train.npz"

    def places(self, root: Path) -> dict[str, Path]:
        """Return the file of each split; an archive that holds all splits is the file of each."""
        places = super().places(root)
        with opened(places["train"]) as archive:
            names = archive.files
        for split in ("validation", "test"):
            if split not in places and _pair(names, split, self._words) is not None:
                places[split] = places["train"]
        return places

    def has_labels(self, path: Path) -> bool:
        """Tell whether an archive holds more than one array."""
        with opened(path) as archive:
            return len(archive.files) > 1

    def read_inputs(self, inputs: Inputs, root: Path | None) -> Found:
        """Read one array for each input, found by the input's name in the archive of each split or in a common one."""
        places = OwnFiles.places(self, root or Path())
        with opened(places["train"]) as archive:
            for split in ("validation", "test"):
                if _of_split(archive.files, split, next(iter(inputs.shapes))) is not None:
                    places.setdefault(split, places["train"])
        arrays = {split: self._arrays_of(path, split, tuple(inputs.shapes)) for split, path in places.items()}
        return self.assembled(places, arrays, [], inputs=inputs)

    def _arrays_of(self, path: Path, split: str, inputs: tuple[str, ...]) -> Arrays:
        """Read the arrays of all inputs and the labels of one split."""
        with opened(path) as archive:
            names = {word: _of_split(archive.files, split, word) or _exactly(archive.files, word) for word in inputs}
            wanted = tuple(self.targets) or LABELS
            labels = {word: _of_split(archive.files, split, word) or _exactly(archive.files, word) for word in wanted}
            missing = [word for word, found in names.items() if found is None]
            missing += [word for word, found in labels.items() if found is None and self.targets]
            if missing or not any(labels.values()):
                arrays = ", ".join((*inputs, *(self.targets or ("y",))))
                raise DataError(
                    f"{path}: expected arrays {arrays}, or these names with _{split}, "
                    f"got {first_names(archive.files, SHOWN) or 'none'}",
                    f"save it with these names: numpy.savez(FILE, {', '.join(f'{n}=...' for n in arrays.split(', '))})",
                )
            read = {word: member(archive, found, path) for word, found in names.items() if found is not None}
            named = {word: member(archive, found, path) for word, found in labels.items() if found is not None}
        label, first = next(iter(named)), next(iter(read.values()))
        subject = f"{path}: {labels[label]}"
        return Arrays(first, named[label], str(path), subject, named=named if self.targets else {}, inputs=read)

    @property
    def _words(self) -> tuple[str, ...]:
        """The names that the array of labels may have: the first target's, if targets have names."""
        return tuple(self.targets)[:1] or LABELS

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read images and labels of one split from an archive, with the labels of each target if targets have names."""
        named: dict[str, Array] = {}
        with opened(path) as archive:
            names = _keys(path, archive.files, split, self._words)
            key = key_of("npz", *stamps([path]), names[0])
            pixels = _extracted(archive, names[0], path, store, key)
            labels = member(archive, names[1], path)
            for target in self.targets:
                _, own = _keys(path, archive.files, split, (target,))
                named[target] = member(archive, own, path)
        subject = f"{path}: {names[0]}"
        pixels, notes = self.arranged(pixels, subject)
        return Arrays(pixels, labels, subject, f"{path}: {names[1]}", notes, key, named)


@contextmanager
def opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an archive; DataError if the file is not one."""
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and ast raise what they like on damaged bytes
        raise DataError(f"{path}: cannot be read as an .npz archive: {error}", "save it with numpy.savez") from error


def _pair(present: list[str], split: str, words: Sequence[str] = LABELS) -> tuple[str, str] | None:
    """Return the names of a split's images and labels, in any case; `words` are the names that the labels may have."""
    lower = {name.lower(): name for name in present}
    for word, image, label in product(WORDS[split], IMAGES, words):
        for form in FORMS:
            names = form.format(image, word), form.format(label, word).lower()
            if all(name in lower for name in names):
                return lower[names[0]], lower[names[1]]
    return None


def _of_split(present: list[str], split: str, word: str) -> str | None:
    """Return the name of an array that is `word` with the name of the split before or behind it, in any case."""
    lower = {name.lower(): name for name in present}
    forms = (form.format(word.lower(), of) for of in WORDS[split] for form in FORMS)
    return next((lower[form] for form in forms if form in lower), None)


def _exactly(present: list[str], word: str) -> str | None:
    return next((name for name in present if name.lower() == word.lower()), None)


def _keys(path: Path, present: list[str], split: str, words: Sequence[str] = LABELS) -> tuple[str, str]:
    named = _pair(present, split, words)
    if named is not None:
        return named
    lower = {name.lower(): name for name in present}
    images = [lower[name] for name in IMAGES if name in lower]
    labels = [lower[name.lower()] for name in words if name.lower() in lower]
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    if words is not LABELS:
        raise DataError(
            f"{path}: expected labels in an array {words[0]} or {words[0]}_{split} beside images in x, "
            f"got {first_names(present, SHOWN) or 'none'}",
            f"save it with these names: numpy.savez(FILE, x=images, {words[0]}=labels)",
        )
    if sorted(present) == ["arr_0", "arr_1"]:
        return "arr_0", "arr_1"
    if any(Path(name).suffix.lower() in SUFFIXES for name in present):
        raise DataError(
            f"{path}: expected arrays, got an archive of pictures", "unpack it, and write source: image_folder"
        )
    raise DataError(
        f"{path}: expected arrays x_{split} and y_{split}, x and y, or images and labels, "
        f"got {first_names(present, SHOWN) or 'none'}",
        "save it with these names: numpy.savez(FILE, x=images, y=labels)",
    )


def images_name(path: Path, present: list[str]) -> str:
    """Return the name of the images in an archive without regard to labels; those of a test split come first."""
    plain = (_exactly(present, word) for word in IMAGES)
    of_splits = (_of_split(present, split, word) for split in ("test", "validation", "train") for word in IMAGES)
    found = next((name for name in (*plain, *of_splits) if name is not None), None)
    if found is None and len(present) > 1 and not all(name.startswith("arr_") for name in present):
        raise DataError(
            f"{path}: expected images as x, got {first_names(present, SHOWN)}",
            "save them with this name: numpy.savez(FILE, x=images)",
        )
    if not present:
        raise DataError(f"{path}: expected images as x, got none", "save them with numpy.savez(FILE, x=images)")
    return found or sorted(present)[0]


def member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    """Return an array of an archive; an error if it would not fit into memory, or holds pickled objects."""
    assert archive.zip is not None  # the archive is open
    size = max(entry.file_size for entry in archive.zip.infolist() if entry.filename in (name, f"{name}.npy"))
    require_memory(size, f"{path}: {name}", "give an archive of fewer or smaller images", DataError)
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise DataError(f"{path}: {name} holds pickled objects, which are refused", PLAIN) from error
        raise


def _extracted(archive: np.lib.npyio.NpzFile, name: str, path: Path, store: Store, key: str) -> Array:
    """Return an array of an archive; a large one is written to the store in blocks of rows, and mapped from there."""
    stored = store.find(key)
    if stored is not None:
        return stored[0].array
    assert archive.zip is not None  # the archive is open
    entry = next((entry for entry in archive.zip.infolist() if entry.filename == f"{name}.npy"), None)
    if entry is None or not store.large(entry.file_size):
        return member(archive, name, path)
    with archive.zip.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            return member(archive, name, path)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        if by_columns or dtype.hasobject or not shape:
            return member(archive, name, path)
        row = math.prod(shape[1:]) * dtype.itemsize

        def write(out: Writing) -> None:
            for start in range(0, shape[0], BLOCK):
                count = min(BLOCK, shape[0] - start)
                out.add(np.frombuffer(file.read(count * row), dtype).reshape(count, *shape[1:]))
            if file.read(1):  # at the end, where the archive's checksum is compared
                raise ValueError("more numbers than its shape says")

        pixels, _ = store.make(key, shape, dtype, f"{path}: {name}: extracting", write)
    return in_one(pixels)


@register("npy")
class Npy(ArrayFiles):
    """Single NumPy arrays: x_train.npy with its labels in y_train.npy, or images.npy and labels.npy, and so on.

    A .npz archive of one array each will do as well.
    """

    train: Annotated[str, "array of the training images, under the root"] = "x_train.npy"
    labels: Annotated[str | None, "array of their labels; the same name with y for x or labels for images"] = None

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read the array of images, and the array with its labels."""
        other = self._labels_of(path, split)
        subject = str(path)
        pixels, notes = self.arranged(_load(path, store), subject)
        return Arrays(pixels, _load(other), subject, str(other), notes, key_of("npy", *stamps([path])))

    def checksums(self, places: Mapping[str, Path]) -> dict[str, str]:
        """Return the SHA-256 of each file of images and labels, by file name."""
        paths = [*places.values(), *(self._labels_of(path, split) for split, path in places.items())]
        return {path.name: file_checksum(path) for path in paths}

    def _labels_of(self, path: Path, split: str) -> Path:
        if split == "train" and self.labels is not None:
            return self.located(path.parent, self.labels)
        stem = path.stem
        tried = [
            stem.replace(image, label)
            for image, label in (("images", "labels"), ("imgs", "labels"), ("x", "y"), ("X", "y"), ("X", "Y"))
        ]
        for name in tried:
            if name != stem and path.with_name(name + path.suffix).is_file():
                return path.with_name(name + path.suffix)
        looked = ", ".join(dict.fromkeys(name + path.suffix for name in tried if name != stem)) or "y_train.npy"
        raise DataError(f"{path}: no labels beside it, such as {looked}", "save them there, or name data.source.labels")


def _load(path: Path, store: Store = MEMORY) -> Array:
    """Return the array of a .npy or .npz file, memory-mapped if it is large."""
    if path.suffix == ".npz":
        with opened(path) as archive:
            if len(archive.files) != 1:
                raise DataError(f"{path}: expected one array, got {', '.join(archive.files)}", "write source: npz")
            name = archive.files[0]
            return _extracted(archive, name, path, store, key_of("npz", *stamps([path]), name))
    try:
        if store.large(path.stat().st_size):
            return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as error:  # tokenize and ast raise what they like on a damaged header
        if "pickle" in str(error).lower():
            raise DataError(f"{path}: holds pickled objects, which are refused", PLAIN) from error
        raise DataError(f"{path}: cannot be read as an array: {error}", "save it with numpy.save") from error
