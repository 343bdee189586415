"""CIFAR-10 and CIFAR-100 in their binary or their Python format, as the published archive or unpacked.

A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnnspec.data.archive import members, require_size
from cnnspec.data.cifar_python import records
from cnnspec.data.download import file_checksum
from cnnspec.data.published import AGAIN, Published, Remote
from cnnspec.data.source import Found, Images, check_labels
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.registry import register

PIXELS = 3 * 32 * 32
FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


class CifarSource(Published):
    """Base of CIFAR-10 and CIFAR-100: records of label bytes and 3,072 pixels, red, green and blue, row by row."""

    files: ClassVar[Mapping[str, tuple[str, ...]]]  # file names of each split
    unpacked: ClassVar[Mapping[str, str]]  # SHA-256 of each whole file
    label_bytes: ClassVar[int]  # label bytes before the pixels; the last one is the class
    python_labels: ClassVar[tuple[str, ...]]  # names of the labels in the Python files

    shape = (3, 32, 32)
    sizes: ClassVar[dict[str, int]] = {"train": 50000, "test": 10000}
    address = "https://www.cs.toronto.edu/~kriz/"

    def locate(self, root: Path | None) -> list[Path]:
        """Return the unpacked files of one folder, or the archive; the first of several training files is enough."""
        archive = self.remotes[0].name
        for folder in self.places(root):
            for form in (str, _python):
                paths = [[folder / form(name) for name in names] for names in self.files.values()]
                if all(names[0].is_file() for names in paths):
                    return [path for names in paths for path in names if path.is_file()]
            for name in (archive, _python(archive)):
                if (folder / name).is_file():
                    return [folder / name]
        raise self.missing(f"{archive} or {' and '.join(names[0] for names in self.files.values())}", root)

    def open(self, paths: list[Path]) -> Found:
        """Check and read the archive or the files."""
        archive = self.remotes[0].name
        for path in paths:
            require_size(path)
        if paths[0].name == archive:
            return self._packed(paths[0])
        if paths[0].name == _python(archive):
            names = {_python(name) for names in self.files.values() for name in names}
            packed = dict(members(paths[0], names))
            absent = sorted(names - set(packed))
            if absent:
                raise DataError(f"{paths[0]}: expected {', '.join(absent)} in the archive, got none", AGAIN)
            return self._of_python(packed, dict.fromkeys(packed, paths[0]))
        contents = {path.name: _content(path) for path in paths}
        places = {path.name: path for path in paths}
        if paths[0].suffix != ".bin":
            return self._of_python(contents, places)
        return self._found(contents, places, {})

    def images_in(self, path: Path) -> Array | None:
        """Return the images of a file of records, or of a file in the Python format under its published name."""
        if path.suffix == ".bin":
            content = _content(path)
        elif path.name in {_python(name) for names in self.files.values() for name in names}:
            content = records(_content(path), self.python_labels, path)
        else:
            return None
        return self._table(content, path)[:, self.label_bytes :].reshape(-1, *self.shape)

    def _of_python(self, contents: Mapping[str, bytes], places: Mapping[str, Path]) -> Found:
        """Read files in the Python format by way of the binary one; their checksums are not known."""
        read = {f"{name}.bin": records(content, self.python_labels, places[name]) for name, content in contents.items()}
        result = self._found(read, {f"{name}.bin": path for name, path in places.items()}, {}, published=False)
        note = f"{self.type_name}: read from Python's files, whose form is checked but whose checksums are not known"
        return replace(result, notes=(*result.notes, note))

    def _packed(self, path: Path) -> Found:
        got, wanted = file_checksum(path), self.remotes[0].sha256
        # Errors of the archive come before its checksum, because they say more.
        names = [name for names in self.files.values() for name in names]
        contents = dict(members(path, names))
        if got != wanted:
            raise DataError(f"{path}: expected SHA-256 {wanted}, got {got}: the file is damaged", AGAIN)
        absent = [name for name in names if name not in contents]
        if absent:
            raise DataError(f"{path}: expected {', '.join(absent)} in the archive, got none", AGAIN)
        return self._found(contents, dict.fromkeys(contents, path), {path.name: got})

    def _found(
        self,
        contents: Mapping[str, bytes],
        places: Mapping[str, Path],
        checksums: dict[str, str],
        *,
        published: bool = True,
    ) -> Found:
        import hashlib

        splits, notes = {}, []
        for split, names in self.files.items():
            present = [name for name in names if name in contents]
            sums = {name: hashlib.sha256(contents[name]).hexdigest() for name in present}
            wanted = self.unpacked if published else sums
            parts = [self._records(contents[name], places[name], name, sums[name], wanted[name]) for name in present]
            splits[split] = Images(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
            count, full_size = len(splits[split].labels), self.sizes[split]
            if count != full_size:
                notes.append(f"{self.type_name}: {count:,} of the published {full_size:,} {split} images are here")
            checksums.update(sums)
        return Found(splits, checksums, self.names, tuple(notes))

    def _records(self, content: bytes, path: Path, name: str, got: str, wanted: str) -> tuple[Array, Array]:
        """Return pixels and labels of one file; `got` is its checksum, `wanted` that of the complete published file."""
        table = self._table(content, path)
        labels = table[:, self.label_bytes - 1].astype(np.int64)
        check_labels(labels, len(self.names), path)
        full_count = (
            self.sizes["train"] // len(self.files["train"]) if name in self.files["train"] else self.sizes["test"]
        )
        if len(table) > full_count:
            raise DataError(f"{path}: expected at most {full_count:,} images in {name}, got {len(table):,}", AGAIN)
        if len(table) == full_count and got != wanted:
            raise DataError(f"{path}: expected SHA-256 {wanted} ({name}), got {got}: the file is damaged", AGAIN)
        return table[:, self.label_bytes :].reshape(-1, *self.shape), labels

    def _table(self, content: bytes, path: Path) -> Array:
        """Return the records of a file, a row each."""
        length = self.label_bytes + PIXELS
        if not content or len(content) % length:
            raise DataError(
                f"{path}: truncated, expected records of {length:,} bytes, "
                f"got {len(content):,} bytes, which are {len(content) / length:.2f} records",
                AGAIN,
            )
        return np.frombuffer(content, np.uint8).reshape(-1, length)


def _python(name: str) -> str:
    """Return the name that a file of the binary format has in the Python format."""
    return name.replace("-binary.", "-python.").removesuffix(".bin")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", AGAIN) from error


def _batches() -> Iterator[str]:
    return (f"data_batch_{number}.bin" for number in range(1, 6))


@register("cifar10")
class Cifar10(CifarSource):
    """60,000 colour pictures of 32x32 pixels in 10 classes, 50,000 to train and 10,000 to test.

    Files with fewer records than the published ones are read as far as they go, with a note.
    """

    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    folders = ("cifar10", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10-small")
    files: ClassVar[dict[str, tuple[str, ...]]] = {"train": tuple(_batches()), "test": ("test_batch.bin",)}
    label_bytes = 1
    python_labels = ("labels",)
    remotes = (
        Remote(
            "cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        ),
    )
    unpacked: ClassVar[dict[str, str]] = {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    }


@register("cifar100")
class Cifar100(CifarSource):
    """60,000 colour pictures of 32x32 pixels in 100 classes, 50,000 to train and 10,000 to test.

    The labels are the 100 fine ones; the 20 coarse ones are in the files and not read.
    """

    names = tuple(FINE_LABELS.split())
    folders = ("cifar100", "cifar-100-binary", "cifar-100-python")
    files: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("train.bin",), "test": ("test.bin",)}
    label_bytes = 2
    python_labels = ("coarse_labels", "fine_labels")
    remotes = (
        Remote(
            "cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
        ),
    )
    unpacked: ClassVar[dict[str, str]] = {
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    }
