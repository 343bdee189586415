"""MNIST and data sets in its file format."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnnspec.data.idx import Idx, spellings
from cnnspec.data.published import AGAIN, Published, Remote
from cnnspec.data.source import Found, Images, check_labels
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.registry import register

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
PART = 1 << 20  # bytes unpacked at a time: the images alone stay in memory
NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class IdxSource(Published):
    """Base of data sets of four IDX files, gzipped or not."""

    unpacked: ClassVar[Mapping[str, str]]  # SHA-256 of each file without gzip

    shape = (1, 28, 28)
    sizes: ClassVar[dict[str, int]] = {"train": 60000, "test": 10000}

    def locate(self, root: Path | None) -> list[Path]:
        """Return the paths of the four files, in the order in which the class names them."""
        return [self._find(name, root) for names in NAMES.values() for name in names]

    def open(self, paths: list[Path]) -> Found:
        """Read the four files and check them."""
        splits, checksums, waiting = {}, {}, iter(paths)
        for split, (images, labels) in NAMES.items():
            shape = (self.sizes[split], *self.shape)
            pixels, checksums[images] = _read(next(waiting), IMAGES_MAGIC, shape, self.unpacked[images])
            marks, checksums[labels] = _read(next(waiting), LABELS_MAGIC, shape[:1], self.unpacked[labels])
            found = marks.astype(np.int64)
            check_labels(found, len(self.names), labels)
            splits[split] = Images(pixels, found)
        return Found(splits, checksums, self.names)

    def images_in(self, path: Path) -> Array | None:
        """Return the images of an IDX file."""
        return Idx().images_in(path)

    def _find(self, name: str, root: Path | None) -> Path:
        for folder in self.places(root):
            for path in spellings(folder, name):
                if path.is_file():
                    return path
        raise self.missing(f"{name} or {name}.gz", root)


def _read(path: Path, magic: int, shape: tuple[int, ...], wanted: str) -> tuple[Array, str]:
    """Return the array of an IDX file and the file's checksum; DataError if either is not as expected."""
    import hashlib

    # The cheap checks come first, because their errors say more than a wrong checksum.
    dimensions = (shape[0], *shape[2:])
    header = 4 * (1 + len(dimensions))
    expected = header + prod(shape)
    content, length = _content(path, expected)
    if length < header:
        raise DataError(f"{path}: truncated, expected a header of {header} bytes, got {length}", AGAIN)
    numbers = content[:header].view(">u4").tolist()
    if numbers[0] != magic:
        raise DataError(f"{path}: expected magic number {magic}, got {numbers[0]}: not this data set's file", AGAIN)
    if tuple(numbers[1:]) != dimensions:
        raise DataError(f"{path}: expected dimensions {dimensions}, got {tuple(numbers[1:])}", AGAIN)
    if length > expected:
        raise DataError(f"{path}: expected {expected:,} bytes, got more", AGAIN)
    if length != expected:
        raise DataError(f"{path}: truncated, expected {expected:,} bytes, got {length:,}", AGAIN)
    got = hashlib.sha256(content.data).hexdigest()
    if got != wanted:
        raise DataError(f"{path}: expected SHA-256 {wanted} (unpacked), got {got}: the file is damaged", AGAIN)
    return content[header:].reshape(shape), got


def _content(path: Path, most: int) -> tuple[Array, int]:
    """Return the first `most` bytes of a file, decompressed straight into an array, and its length.

    Of a longer file some length above `most` is returned: the rest is not read.
    """
    import gzip
    import zlib

    content: Array = np.zeros(most, np.uint8)
    length = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while length <= most and (part := file.read(PART)):
                room = content[length : length + len(part)]
                room[...] = np.frombuffer(part, np.uint8, len(room))
                length += len(part)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", AGAIN) from error
    content.flags.writeable = False
    return content, length


@register("mnist")
class Mnist(IdxSource):
    """70,000 handwritten digits of 28x28 pixels, 60,000 to train and 10,000 to test.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998), CC BY-SA 3.0.
    """

    chiral = True
    names = tuple("0123456789")
    folders = ("mnist", "MNIST")
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    remotes = (
        Remote(
            "train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        Remote(
            "train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        Remote(
            "t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        Remote("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
    unpacked: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


@register("fashion_mnist")
class FashionMnist(IdxSource):
    """70,000 pictures of clothing of 28x28 pixels, 60,000 to train and 10,000 to test.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST" (2017), MIT licence.
    """

    names = (
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
    folders = ("fashion-mnist", "fashion_mnist", "FashionMNIST")
    address = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    remotes = (
        Remote(
            "train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        Remote(
            "train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        Remote(
            "t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        Remote("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
    unpacked: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
