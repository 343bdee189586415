"""Finds equal or nearly equal images in two splits of a data set: a test on such images was seen in training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cnnspec.data import Data, Dataset
from cnnspec.data.rows import Pixels
from cnnspec.kernels.step import Array
from cnnspec.report.dataset import evenly, label_words
from cnnspec.report.png import picture

PAIRS = (("test", "train"), ("validation", "train"), ("test", "validation"))  # pairs of splits that are compared
MOST_BYTES = 128 << 20  # bytes of a split that are compared
MOST_LIKENED, MOST_LIKELY = 1_000, 20_000  # images of the first and of the second split whose likeness is measured
NEAR = 0.1  # distance of nearly equal images, as a share of the first one's deviation
GRID = 8  # rows and columns of means, by which likely pairs are found
AT_ONCE = 100  # images compared at once with all of another split
SHOWN = 12  # pairs that are shown


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a pair."""

    split: str
    number: int
    picture: str
    label: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of different splits, and a phrase on how similar they are."""

    images: tuple[Image, Image]
    apart: float  # 0 where every pixel is the same
    words: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """A sentence for every two splits, and some of the pairs, the most similar first."""

    sentences: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class _Some:
    """Images of a split, all of them or an even selection, which are read when they are compared."""

    split: str
    numbers: Array
    pixels: Pixels  # (n, c, h, w), of the whole split

    @property
    def of(self) -> int:
        """The number of images of the split."""
        return len(self.pixels)

    @property
    def words(self) -> str:
        """How many images these are, and of how many."""
        count = len(self.numbers)
        return f"{count:,} {self.split}" if count == self.of else f"{count:,} of {self.of:,} {self.split}"

    def each(self) -> Iterator[Array]:
        """Yield one image after the other, of which only some are in memory."""
        for start in range(0, len(self.numbers), AT_ONCE):
            yield from self.pixels[self.numbers[start : start + AT_ONCE]]

    def all(self) -> Array:
        """Return all of them as one array."""
        return np.asarray(self.pixels[self.numbers])


def duplicates(data: Data) -> Duplicates | None:
    """Compare the images of every two splits; None if there is only one split, or if the data is not images."""
    splits = {name: _sample(name, split) for name, split in data.splits.items() if len(split)}
    compared = [(splits[one], splits[other]) for one, other in PAIRS if one in splits and other in splits]
    if data.train.pixels.ndim != 4 or not compared:
        return None
    sentences, pairs = [], []
    for one, other in compared:
        few, many = _fewer(one, MOST_LIKENED), _fewer(other, MOST_LIKELY)
        same = same_images(one.each(), other.each())
        near = near_images(few.all(), many.all())
        found = {int(one.numbers[i]): (int(other.numbers[j]), 0.0) for i, j in same.items()}
        others = {int(few.numbers[i]): (int(many.numbers[j]), apart) for i, (j, apart) in near.items()}
        others = {i: pair for i, pair in others.items() if i not in found}
        sentences.append(_sentence(one, other, few, many, len(found), len(others)))
        listed = sorted({**found, **others}.items(), key=lambda entry: entry[1][1])[:SHOWN]
        pairs += [_pair(data, (one.split, i), (other.split, j), apart) for i, (j, apart) in listed]
    return Duplicates(tuple(sentences), tuple(sorted(pairs, key=lambda pair: pair.apart)[:SHOWN]))


def same_images(one: Iterable[Array], other: Iterable[Array]) -> dict[int, int]:
    """Map the number of each image of one set that is also in the other to the number of the first equal one there."""
    places: dict[bytes, int] = {}
    for number, image in enumerate(other):
        places.setdefault(_checksum(image), number)
    found = ((number, places.get(_checksum(image))) for number, image in enumerate(one))
    return {number: place for number, place in found if place is not None}


def near_images(one: Array, other: Array) -> dict[int, tuple[int, float]]:
    """Map each of the images (n, c, h, w) to the nearest one among (m, c, h, w) and its distance, if it is near.

    The distance is the root of the mean square of the difference, divided by the first image's deviation. Means over
    a few rows and columns are never farther apart than the images, so they select the pairs to compare.
    """
    if not (len(one) and len(other)):
        return {}
    means, many = _means(one), _means(other)
    squares, found = np.square(many).sum(axis=1), dict[int, tuple[int, float]]()
    for start in range(0, len(one), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        images = np.asarray(one[part], np.float32).reshape(len(means[part]), -1)
        reach = NEAR * images.std(axis=1)
        apart = np.square(means[part]).sum(axis=1)[:, None] + squares - 2 * (means[part] @ many.T)
        # the last term allows for rounding errors in a difference of large numbers
        likely = apart <= np.square(reach)[:, None] + 1e-5 * squares.max(initial=0)
        for i in np.flatnonzero(likely.any(axis=1) & (reach > 0)).tolist():
            candidates = np.flatnonzero(likely[i])
            candidates = candidates[np.argsort(apart[i, candidates], kind="stable")][:AT_ONCE]
            differences = np.asarray(other[candidates], np.float32).reshape(len(candidates), -1) - images[i]
            distances = np.sqrt(np.square(differences).mean(axis=1))
            nearest = int(distances.argmin())
            if distances[nearest] <= reach[i]:
                found[start + i] = int(candidates[nearest]), float(distances[nearest] / images[i].std())
    return found


def _means(images: Array) -> Array:
    """Return images (n, c, h, w) as means over a grid, (n, k), which are no farther apart than the images."""
    n, c, height, width = images.shape
    rows, columns = (np.linspace(0, size, min(size, GRID) + 1).round().astype(int)[:-1] for size in (height, width))
    means = np.empty((n, c, len(rows), len(columns)), np.float32)
    for start in range(0, n, AT_ONCE):
        part = np.asarray(images[start : start + AT_ONCE], np.float32)
        means[start : start + AT_ONCE] = np.add.reduceat(np.add.reduceat(part, rows, axis=2), columns, axis=3)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return np.asarray(means / np.sqrt(counts * (c * height * width))).reshape(n, -1)


def _checksum(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _sample(name: str, split: Dataset) -> _Some:
    size = int(np.prod(split.pixels.shape[1:])) * split.pixels.dtype.itemsize
    numbers = evenly(len(split), min(len(split), max(1, MOST_BYTES // size)))
    return _Some(name, numbers, split.pixels)


def _fewer(some: _Some, most: int) -> _Some:
    chosen = evenly(len(some.numbers), min(len(some.numbers), most))
    return _Some(some.split, some.numbers[chosen], some.pixels)


def _sentence(one: _Some, other: _Some, few: _Some, many: _Some, same: int, near: int) -> str:
    sentence = (
        f"Of {one.words} images {same or 'none'} {'is' if same <= 1 else 'are'} in {other.split} too, pixel by pixel"
    )
    sentence += f" ({other.words} were looked at)" if len(other.numbers) < other.of else ""
    sentence += f", and {near or 'none'}{' more' if same and near else ''} nearly so"
    if (len(few.numbers), len(many.numbers)) < (few.of, many.of):
        sentence += f" (for likeness {few.words} and {many.words} were looked at)"
    return f"{sentence}."


def _pair(data: Data, first: tuple[str, int], second: tuple[str, int], apart: float) -> Pair:
    images = [_image(data, *place) for place in (first, second)]
    words = "the same pixels" if apart == 0 else f"{apart:.1%} apart"
    return Pair((images[0], images[1]), apart, words + (", other labels" if images[0].label != images[1].label else ""))


def _image(data: Data, split: str, number: int) -> Image:
    dataset = data.splits[split]
    words = ", ".join(label_words(data, dataset.labels[number]))
    return Image(split, number, picture(dataset.pixels[number]), words)
