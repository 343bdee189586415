"""Finds picture files, and the class and split of each, in the usual arrangements of folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cnnspec.data.classes import ordered
from cnnspec.data.siblings import beside
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path

SUFFIXES = frozenset(
    {
        *(
            ".apng",
            ".avif",
            ".bmp",
            ".dib",
            ".gif",
            ".j2k",
            ".jfif",
            ".jp2",
            ".jpe",
            ".jpeg",
            ".jpg",
            ".pbm",
            ".pgm",
            ".png",
            ".pnm",
            ".ppm",
        ),
        *(".tga", ".tif", ".tiff", ".webp"),
    }
)
SPLITS = {  # usual folder names of each split
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SYSTEM = frozenset(  # files that cameras, storage and operating systems put beside pictures
    {
        "#recycle",
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
TABLES = (".csv", ".tsv", ".txt", ".csv.gz")
SIDECARS = frozenset({".aae", ".db", ".ini", ".lnk", ".thm", ".xmp"})
MOST_LISTED, NAMED = 1000, 3  # files that are looked at for a message, and kinds of them that it names
NO_PICTURE = "put pictures (PNG, JPEG, ...) into it, or remove the folder"
HELP = "put pictures into DIR/train/CLASS/ and name DIR with --data DIR or data.root"


@dataclass(slots=True)
class Listing:
    """The pictures of one split by class, in a fixed order, and the files beside them that are no pictures.

    `torn` are pictures that a list has in several classes.
    """

    place: Path
    pictures: dict[str, list[Path]] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    torn: list[Path] = field(default_factory=list)


def split_places(root: Path, named: Mapping[str, str | None], *, trained: bool = False) -> dict[str, Path]:
    """Return the folder of the training pictures, and those for validation and testing if there are any.

    Named folders must exist. For the other splits the usual names are tried, of tables beside a table of training
    pictures, else of folders whose subfolders hold the pictures of the classes; without such a training folder, the
    root itself holds the folders of the classes. If a network is `trained`, pictures to test or to validate are enough:
    they also take the place of the others.
    """
    if not root.is_dir():
        unpacked = "unpack it if it is an archive, and " if root.exists() else ""
        cure = f"{unpacked}name the folder with the pictures with --data DIR or data.root"
        if is_table(root):
            cure = f"name the folder that it is in, and write data.source.train: {root.name}"
        raise DataError(f"{root}: {_no_folder(root)}", cure)
    places = {split: root / user_path(name) for split, name in named.items() if name is not None}
    for place in places.values():
        if not place.exists():
            raise DataError(f"{place}: no such folder", HELP)
    table = "train" in places and places["train"].is_file()
    for split in named:
        there = beside(places["train"], split, Path.is_file) if table and split != "train" else None
        if split not in places and there is not None:
            places[split] = there
        elif split not in places:
            usual = [path for path in _folders(root) if path.name.lower() in SPLITS[split]]
            full = [path for path in usual if _has_classes(path)]
            if len(full) > 1:
                names = " and ".join(f"{path.name}/" for path in full)
                raise DataError(f"{root}: expected one {split} folder, got {names}", f"name one: data.source.{split}")
            if full or (split == "train" and usual and not _has_classes(root, usual)):
                places[split] = (full or usual)[0]
    if "train" not in places:
        if _has_classes(root, list(places.values())):
            places["train"] = root
        elif trained and places:
            places["train"] = places.setdefault("test", places.get("validation", root))
        else:
            raise _no_pictures(root, [f"{place.name}/" for place in places.values()])
    return {split: places[split] for split in SPLITS if split in places}


def _no_pictures(root: Path, others: list[str]) -> DataError:
    """Return the error for a folder without training pictures: it says which other splits or files are in it."""
    expected = f"{root}: expected train/ or a folder for each class, with pictures"
    if others:
        return DataError(f"{expected}, got {' and '.join(others)}", HELP)
    found = Counter(path.suffix.lower() or "no ending" for path in islice(files_in(root), MOST_LISTED))
    if not found:
        return DataError(f"{expected}, got none", HELP)
    if any(end in SUFFIXES for end in found):
        return DataError(f"{expected}, got pictures without such a folder", HELP)
    counted = ", ".join(f"{count} of {end}" for end, count in found.most_common(NAMED))
    return DataError(f"{expected}, got files: {counted}", f"save pictures as PNG or JPEG; {HELP}")


def list_folder(folder: Path, apart: list[Path]) -> Listing:
    """List the pictures below each class's folder, by class; the folders in `apart` are not classes."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {_no_folder(folder)}", HELP)
    listing = Listing(folder)
    for path in _visible(folder):
        if path in apart:
            continue
        if path.is_dir():
            pictures = listing.pictures.setdefault(path.name, [])
            for file in files_in(path):
                (pictures if file.suffix.lower() in SUFFIXES else listing.others).append(file)
        else:
            listing.others.append(path)
    listing.pictures = {name: listing.pictures[name] for name in ordered(listing.pictures)}
    return listing


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a table of text."""
    return path.name.lower().endswith(TABLES)


def _no_folder(path: Path) -> str:
    return "is a file, not a folder" if path.exists() else "no such folder"


def _visible(folder: Path) -> list[Path]:
    """Return the entries of a folder without hidden and system files, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if not _hidden(path.name))
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename}: cannot be read: {error.strerror}", "give yourself the right to read it")


def _hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in SYSTEM or Path(name).suffix.lower() in SIDECARS


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _has_classes(folder: Path, apart: list[Path] | None = None) -> bool:
    """Tell whether any subfolder, except those in `apart`, holds a picture."""
    return any(
        file.suffix.lower() in SUFFIXES
        for path in _folders(folder)
        if path not in (apart or ())
        for file in files_in(path)
    )


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth, without hidden and system files, by name.

    Links are followed, each folder once; those to a folder above, in which this one lies, are not.
    """

    def stop(error: OSError) -> None:
        raise _unreadable(error) from error

    above = (*folder.absolute().parents, *Path(os.path.realpath(folder)).parents)
    seen = {os.path.realpath(place) for place in above}
    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(place, name) for name in sorted(names) if not _hidden(name))
