"""Examines a folder of pictures: its classes, the number of pictures of each, their sizes, and whether all are grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

from cnnspec.data.decode import PictureRules, read_picture
from cnnspec.data.picture_files import NO_PICTURE, is_table, list_folder, split_places
from cnnspec.data.picture_list import names_pictures, read_list
from cnnspec.diagnostics import DataError

LOOKED_AT = 100  # pictures of a folder whose size and mode are read
PAIRED = {"images", "masks"}  # the folders of `image_masks`
ARRAYS = {".npz": "npz", ".npy": "npy", ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}  # sources
SIDES = (8, 16, 24, 32, 48, 64, 96, 128)  # image sides from which one is chosen for a small network


@dataclass(frozen=True, slots=True)
class Survey:
    """The number of pictures of each class in a folder, its splits, and a size and mode that suit all pictures.

    `sizes` are the smallest and largest height and width among the pictures examined; `broken` is the number of those
    that could not be read.
    """

    counts: dict[str, int]
    splits: tuple[str, ...]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    grey: bool
    side: int
    broken: int


def survey(root: Path) -> Survey:
    """Examine pictures in folders or a table as `image_folder` reads them; DataError if there are no classes."""
    named: dict[str, str | None] = {"train": None, "validation": None, "test": None}
    if root.is_dir():
        places = split_places(root, named, trained=False)
        listing = list_folder(places["train"], [place for place in places.values() if place != places["train"]])
    elif root.is_file() and is_table(root) and names_pictures(root):
        places = split_places(root.parent, {**named, "train": root.name}, trained=False)
        listing = read_list(root)
    else:
        raise _no_folder(root)
    counts = {name: len(paths) for name, paths in listing.pictures.items()}
    files = [path for paths in listing.pictures.values() for path in paths]
    if len(counts) < 2 or not files:
        raise DataError(
            f"{places['train']}: expected a folder for each of two classes or more, with pictures, got {len(counts)}",
            "put the pictures of each class into a folder with its name",
        )
    if {name.lower() for name in counts} == PAIRED:
        raise DataError(
            f"{places['train']}: images and masks are no classes: a mask says the class of each pixel of its picture",
            f"start from a spec for masks, cnnspec init unet-shapes, with data: {{source: image_masks, root: {root}}}",
        )
    empty = next((name for name, count in counts.items() if not count), None)
    if empty is not None:
        raise DataError(f"{places['train'] / empty}: no picture of this class", NO_PICTURE)
    sizes, grey, faults = [], True, list[DataError]()
    for path in _spread(files):
        try:
            decoded = read_picture(path, PictureRules(None, None, (255, 255, 255)))
        except DataError as error:
            faults.append(error)
            continue
        sizes.append(decoded.pixels.shape[1:])
        grey = grey and decoded.pixels.shape[0] == 1
    if not sizes:
        first = faults[0]
        raise DataError(f"{places['train']}: none of the pictures can be read; the first: {first}", first.help)
    middle = median_low(min(size) for size in sizes)
    side = max((side for side in SIDES if side <= middle), default=SIDES[0])
    heights, widths = zip(*sizes, strict=True)
    extremes = (min(heights), min(widths)), (max(heights), max(widths))
    return Survey(counts, tuple(places), extremes, grey, min(side, 64), len(faults))


def _no_folder(path: Path) -> DataError:
    """Return the error for a path that is a file or does not exist."""
    if not path.exists():
        return DataError(f"{path}: no such folder", "name a folder with a folder of pictures for each class")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in ARRAYS:
        kind = ARRAYS[suffix]
        shape = ", shape: [channels, height, width]" if kind in ("csv", "parquet") else ""
        cure = f"write data: {{source: {{type: {kind}, train: {path.name}{shape}}}}} into a spec of cnnspec init lenet"
    else:
        cure = "unpack it if it is an archive, and name the folder with a folder of pictures for each class"
    return DataError(f"{path}: is a file, not a folder of pictures", cure)


def _spread(files: Sequence[Path]) -> list[Path]:
    """Return some of the files, evenly spread over the list."""
    step = max(1, len(files) // LOOKED_AT)
    return list(files[::step])
