"""Data sets in MNIST's IDX format, under any of the file names in common use."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BufferedIOBase
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from cnnspec.data.download import file_checksum
from cnnspec.data.npz import Npy
from cnnspec.data.own import Arrays, OwnFiles
from cnnspec.data.rows import in_one
from cnnspec.data.source import Found, Images, Source
from cnnspec.data.store import MEMORY, Store, Writing, key_of, stamps
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.memory import require_memory
from cnnspec.registry import register
from cnnspec.shapes import Shape, text

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # value type for the header's third byte
PART = 1 << 20  # bytes that are read at a time
WHOLE = "fetch or save the file again"
DIGITS, CAPITALS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MERGED = DIGITS + CAPITALS + "abdefghnqrt"  # small letters that look different from their capitals
EMNIST = {
    "balanced": MERGED,
    "bymerge": MERGED,
    "byclass": DIGITS + CAPITALS + CAPITALS.lower(),
    "digits": DIGITS,
    "letters": CAPITALS,
    "mnist": DIGITS,
}
HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわゐゑをんゝ"


def spellings(folder: Path, name: str) -> Iterator[Path]:
    """Yield the paths that a file may have: with or without .gz, .idx for -idx, in raw/ or in a folder of its name."""
    for place in (folder, folder / "raw"):
        for spelling in (name, name.replace("-idx", ".idx")):
            yield from (
                place / spelling,
                place / f"{spelling}.gz",
                place / spelling / name,
                place / spelling / spelling,
            )


def read_idx(path: Path, store: Store = MEMORY, key: str = "") -> tuple[Array, tuple[str, ...]]:
    """Return the array of an IDX file, and a note if it is kept in the store; DataError if the file is damaged.

    A large array is memory-mapped in its file, or decompressed into the store under `key`. The file is read up to the
    length that its header declares; nothing is read if that exceeds the free memory.
    """
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            kind, shape = _header(path, file)
            start, row = 4 + 4 * len(shape), prod(shape[1:]) * kind.itemsize
            expected = start + shape[0] * row
            if not packed and store.large(expected):
                there = path.stat().st_size
                if there != expected:
                    raise _truncated(path, expected, f"{there:,}")
                return np.memmap(path, kind, "r", start, shape), ()
            needed = row if store.wants(expected) else expected - start
            require_memory(needed, f"{path}: its array of {text(shape)}", WHOLE, DataError)

            def write(out: Writing) -> None:
                while out.done < shape[0]:
                    count = min(max(1, PART // max(1, row)), shape[0] - out.done)
                    content = _part(path, file, count * row)
                    if len(content) != count * row:
                        raise _truncated(path, expected, f"{start + out.done * row + len(content):,}")
                    out.add(np.frombuffer(content, kind).reshape(count, *shape[1:]))
                if _part(path, file, 1):  # at the end, where gzip's checksum is compared
                    raise _truncated(path, expected, "more")

            stored = store.find(key) if packed else None
            made, _ = stored or store.make(key, shape, kind, f"{path}: reading {shape[0]:,} images", write)
            return in_one(made), tuple(store.location_note(path, made, new=stored is None))
    except OSError as error:
        raise _unreadable(path, error) from error


def is_idx(path: Path) -> bool:
    """Tell by its first bytes whether a file, gzipped or not, is in the IDX format."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and start[3] > 0


def _header(path: Path, file: BufferedIOBase) -> tuple[np.dtype[Any], Shape]:
    """Read the type and the shape of the array from the start of the file."""
    start = _part(path, file, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not start[3]:
        raise DataError(f"{path}: expected an IDX file, which begins with two zeros and a type", WHOLE)
    sizes = _part(path, file, 4 * start[3])
    if len(sizes) != 4 * start[3]:
        raise _truncated(path, 4 + 4 * start[3], str(4 + len(sizes)))
    return np.dtype(TYPES[start[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())


def _part(path: Path, file: BufferedIOBase, count: int) -> bytes:
    try:
        return file.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read: {error}", WHOLE)


def _truncated(path: Path, expected: int, got: str) -> DataError:
    return DataError(f"{path}: truncated, expected {expected:,} bytes, got {got}", WHOLE)


@register("idx")
class Idx(OwnFiles):
    """Any data set in MNIST's format: IDX files of images (n, h, w) or (n, c, h, w), and of labels."""

    train: Annotated[str, "file of the training images, under the root"] = "train-images-idx3-ubyte"
    transpose: Annotated[bool, "whether rows and columns of an image have changed places, as in EMNIST"] = False
    folders: ClassVar[tuple[str, ...]] = ("MNIST", "mnist")  # subfolders of the root in which the files may lie

    def located(self, root: Path, name: str) -> Path:
        """Return the path of a file under any of its usual names."""
        for folder in (root, *(root / folder for folder in self.folders)):
            for path in spellings(folder, name):
                if path.is_file():
                    return path
        looked = ", ".join(f"{folder}/" for folder in ("raw", *self.folders))
        raise DataError(
            f"{root / name}: no such file, nor with .gz, nor in {looked}",
            "name its folder with --data DIR or data.root",
        )

    def places(self, root: Path) -> dict[str, Path]:
        """Return the file of each split; test images may be named with t10k or test in the place of train."""
        places = super().places(root)
        train = places["train"]
        for word in ("t10k", "test"):
            name = train.name.replace("train", word)
            for path in (train.with_name(name), train.parent.parent / name / name):
                if "test" not in places and self.test is None and name != train.name and path.is_file():
                    places["test"] = path
        return places

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read the images of a file, and the labels in the file beside it."""
        other = _labels_of(path)
        key = key_of("idx", *stamps([path]))
        pixels, notes = read_idx(path, store, key)
        labels, _ = read_idx(other)
        return Arrays(self._upright(pixels, path), labels, str(path), str(other), notes, key)

    def images_in(self, path: Path) -> Array | None:
        """Return the images of an IDX file as those of training are read."""
        return self._upright(read_idx(path)[0], path) if is_idx(path) else None

    def _upright(self, pixels: Array, path: Path) -> Array:
        """Return the array of a file as images (n, c, h, w), with rows and columns in their places."""
        if pixels.ndim not in (3, 4):
            raise DataError(f"{path}: expected images (n, h, w) or (n, c, h, w), got {pixels.shape}", WHOLE)
        pixels = pixels if pixels.ndim == 4 else pixels[:, None]
        return pixels.swapaxes(2, 3) if self.transpose else pixels

    def checksums(self, places: Mapping[str, Path]) -> dict[str, str]:
        """Return the SHA-256 of each file of images and labels, by file name."""
        paths = [*places.values(), *map(_labels_of, places.values())]
        return {path.name: file_checksum(path) for path in paths}


def _labels_of(path: Path) -> Path:
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for other in (name, f"{name}.gz", name.removesuffix(".gz")):
        for place in (path.with_name(other), path.parent.parent / other / other):
            if other != path.name and place.is_file():
                return place
    raise DataError(f"{path}: no labels beside it, expected {name}", "put both files into one folder")


class Characters(Source):
    """Base of published sets of 28x28 characters, which are read from the user's own files: nothing is fetched."""

    chiral = True
    published: ClassVar[Mapping[str, str]] = {}  # SHA-256 of files, as far as they are known

    @property
    def first(self) -> int:
        """The label that stands for the first class."""
        return 0

    @property
    def image_shape(self) -> Shape:
        """The shape of 28x28 pixels, grey."""
        return (1, 28, 28)

    @property
    def files(self) -> OwnFiles:
        """Return the source that reads the files, in which classes are only numbers."""
        raise NotImplementedError

    def images_in(self, path: Path) -> Array | None:
        """Return the images of an IDX file as those of training are read."""
        return self.files.images_in(path)

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read the files, and replace class numbers by names."""
        files = self.files.read(root, download, store)
        numbers = [int(name) - self.first for name in (*files.class_names, *files.strangers)]
        wrong = next((number for number in numbers if not 0 <= number < len(self.class_names)), None)
        if wrong is not None:
            raise DataError(
                f"{self.type_name}: label {wrong + self.first} is none of the {len(self.class_names)} classes",
                "the files belong to another data set",
            )
        places = np.array(numbers, np.int64)
        splits = {split: Images(images.pixels, places[images.labels]) for split, images in files.splits.items()}
        notes = tuple(
            f"{name}: is not the published file: changed, or packed anew"
            for name, checksum in files.checksums.items()
            if self.published.get(name, checksum) != checksum
        )
        return replace(files, splits=splits, class_names=self.class_names, strangers=(), notes=notes)


@register("emnist")
class Emnist(Characters):
    """Handwritten digits and letters of 28x28 pixels, from the IDX files, which are fetched by hand.

    Source: Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of MNIST to handwritten letters" (2017).
    """

    part: Annotated[
        Literal["balanced", "bymerge", "byclass", "digits", "letters", "mnist"], "which of its sets is read"
    ] = "balanced"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Digits, capital letters, and those small letters that look different from capitals."""
        return tuple(EMNIST[self.part])

    @property
    def first(self) -> int:
        """1 for the split of letters, whose labels start there, else 0."""
        return int(self.part == "letters")

    @property
    def files(self) -> OwnFiles:
        """Return the source that reads the files, in which images are transposed."""
        return _Emnist(train=f"emnist-{self.part}-train-images-idx3-ubyte", transpose=True)


class _Emnist(Idx):
    folders = ("emnist", "EMNIST", "gzip", "emnist/gzip", "EMNIST/gzip")


@register("kmnist")
class Kmnist(Characters):
    """70,000 handwritten hiragana of 28x28 pixels in 10 classes, from the IDX files, which are fetched by hand.

    Source: Clanuwat et al., "Deep learning for classical Japanese literature" (2018), CC BY-SA 4.0.
    """

    published: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    }

    @property
    def class_names(self) -> tuple[str, ...]:
        """The ten hiragana."""
        return tuple("おきすつなはまやれを")

    @property
    def files(self) -> OwnFiles:
        """Return the source that reads four IDX files with MNIST's names."""
        return _Kmnist()


class _Kmnist(Idx):
    folders = ("kmnist", "KMNIST")


@register("k49")
class Kuzushiji49(Characters):
    """270,912 handwritten hiragana of 28x28 pixels in 49 classes, from the .npz files, which are fetched by hand.

    Source: Clanuwat et al., "Deep learning for classical Japanese literature" (2018), CC BY-SA 4.0.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """All hiragana and the iteration mark."""
        return tuple(HIRAGANA)

    @property
    def files(self) -> OwnFiles:
        """Return the source that reads four .npz archives of one array each."""
        return Npy(train="k49-train-imgs.npz")
