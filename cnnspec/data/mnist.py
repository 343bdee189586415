"""MNIST and data sets in its file format."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnnspec.data.source import Images, Source, check_labels
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.registry import register

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True, slots=True)
class Sums:
    """SHA-256 of a file, as distributed with gzip and unpacked."""

    packed: str
    plain: str


MNIST_SUMS = {
    "train-images-idx3-ubyte": Sums(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": Sums(
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": Sums(
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": Sums(
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
FASHION_SUMS = {
    "train-images-idx3-ubyte": Sums(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": Sums(
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": Sums(
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": Sums(
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


class IdxSource(Source):
    """Base of data sets of four IDX files, gzipped or not."""

    folders: ClassVar[tuple[str, ...]]  # names of the subfolder, under the root or the cache
    address: ClassVar[str]
    sums: ClassVar[Mapping[str, Sums]]

    image_shape = (1, 28, 28)
    counts: ClassVar[dict[str, int]] = {"train": 60000, "test": 10000}

    def read(self, root: Path | None, download: bool) -> tuple[dict[str, Images], dict[str, str]]:
        """Find, check and read the four files."""
        splits, checksums = {}, {}
        for split, (images, labels) in NAMES.items():
            shape = (self.counts[split], *self.image_shape)
            pixels, checksums[images] = self._file(images, IMAGES_MAGIC, shape, root, download)
            marks, checksums[labels] = self._file(labels, LABELS_MAGIC, shape[:1], root, download)
            found = marks.astype(np.int64)
            check_labels(found, len(self.classes), labels)
            splits[split] = Images(pixels, found)
        return splits, checksums

    def _file(
        self, name: str, magic: int, shape: tuple[int, ...], root: Path | None, download: bool
    ) -> tuple[Array, str]:
        path = self._find(name, root, download)
        content = _content(path)
        wanted = self.sums[name].plain
        # The cheap checks come first: they say more than a checksum that differs.
        dimensions = (shape[0], *shape[2:])
        header = 4 * (1 + len(dimensions))
        if len(content) < header:
            raise DataError(f"{path}: truncated, expected a header of {header} bytes, got {len(content)}", AGAIN)
        numbers = np.frombuffer(content, ">u4", 1 + len(dimensions)).tolist()
        if numbers[0] != magic:
            raise DataError(f"{path}: expected magic number {magic}, got {numbers[0]}: not this data set's file", AGAIN)
        if tuple(numbers[1:]) != dimensions:
            raise DataError(f"{path}: expected dimensions {dimensions}, got {tuple(numbers[1:])}", AGAIN)
        if len(content) != header + int(np.prod(shape)):
            expected = header + int(np.prod(shape))
            raise DataError(f"{path}: truncated, expected {expected:,} bytes, got {len(content):,}", AGAIN)
        got = hashlib.sha256(content).hexdigest()
        if got != wanted:
            raise DataError(f"{path}: expected SHA-256 {wanted} (unpacked), got {got}: the file is damaged", AGAIN)
        return np.frombuffer(content, np.uint8, offset=header).reshape(shape), got

    def _find(self, name: str, root: Path | None, download: bool) -> Path:
        places = [*_places(root, self.folders), *_places(cache_folder(), self.folders)]
        for folder in places:
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
        if download:
            return self._fetch(name)
        looked = ", ".join(str(folder) for folder in places)
        raise DataError(
            f"{self.type_name}: no {name} or {name}.gz in {looked}",
            "name the folder with --data DIR or data.root, or fetch the files with --download",
        )

    def _fetch(self, name: str) -> Path:
        """Download to a temporary file, check, rename: a broken download never lands under the file's name."""
        from urllib.request import urlopen  # takes as long to import as all of data, and is rarely needed

        address = f"{self.address}{name}.gz"
        folder = cache_folder() / self.folders[0]
        temporary = folder / f".{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with urlopen(address, timeout=60) as answer:
                temporary.write_bytes(answer.read())
            got = hashlib.sha256(temporary.read_bytes()).hexdigest()
            if got != self.sums[name].packed:
                raise DataError(f"{address}: expected SHA-256 {self.sums[name].packed}, got {got}", AGAIN)
            return temporary.replace(folder / f"{name}.gz")
        except OSError as error:
            raise DataError(
                f"cannot download {address}: {error}", "fetch the files by hand and name their folder with --data DIR"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


AGAIN = "delete the file and fetch it again with --download"


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/cnnspec, or ~/.cache/cnnspec."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnspec"


def _places(root: Path | None, folders: tuple[str, ...]) -> list[Path]:
    return [] if root is None else [root, *(root / folder for folder in folders)]


def _content(path: Path) -> bytes:
    try:
        packed = path.read_bytes()
        return gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", AGAIN) from error


@register("mnist")
class Mnist(IdxSource):
    """70,000 handwritten digits of 28x28 pixels, 60,000 to train and 10,000 to test.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998), CC BY-SA 3.0.
    """

    classes = tuple("0123456789")
    folders = ("mnist",)
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    sums: ClassVar[dict[str, Sums]] = MNIST_SUMS


@register("fashion_mnist")
class FashionMnist(IdxSource):
    """70,000 pictures of clothing of 28x28 pixels, 60,000 to train and 10,000 to test.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST" (2017), MIT licence.
    """

    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    folders = ("fashion-mnist", "fashion_mnist")
    address = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    sums: ClassVar[dict[str, Sums]] = FASHION_SUMS
