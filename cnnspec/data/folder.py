"""Pictures in folders, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np

from cnnspec.data.classes import ordered
from cnnspec.data.decode import WHITE, Decoded, PictureRules, read_picture, tell
from cnnspec.data.own import split_off
from cnnspec.data.picture_files import HELP, Listing, list_folder, split_places
from cnnspec.data.picture_list import read_list
from cnnspec.data.source import Found, Images, Source
from cnnspec.diagnostics import DataError
from cnnspec.fields import Colour, Fraction, Pair
from cnnspec.kernels.step import Array
from cnnspec.memory import require_memory
from cnnspec.registry import register
from cnnspec.shapes import Shape

DECLARED = {"grey", "rgb", "size"}  # conversions that a spec asks for by `mode` and `size`
COPIES = 2  # of all pictures that are in memory at once: one by one, and together
BLOCK = 64  # pictures that are decoded at once
NAMED = 3  # files that a message names before it counts the others


@register("image_folder")
class ImageFolder(Source):
    """Pictures in train/CLASS/, perhaps val/CLASS/ and test/CLASS/, or just CLASS/, under the root; needs Pillow.

    Classes are the folders' names: in the order of numbers where all are numbers, else alphabetical. Pictures of a
    class may lie in folders within its folder; hidden files and those of operating systems are not looked at. A table
    of `file` and `label` may take the place of each folder. Pictures of one size and one mode need neither `size` nor
    `mode`; others are resized and converted to them.
    """

    train: Annotated[
        str | None, "folder of the classes' folders, or a table, under the root; train/, or the root itself"
    ] = None
    validation: Annotated[str | None, "the same for validation; val/, valid/ or validation/ where it is there"] = None
    test: Annotated[str | None, "the same for testing; test/ where it is there, else a share is held out"] = None
    held_out: Annotated[Fraction, "that share, stratified and always the same"] = 0.2
    size: Annotated[Pair | None, "height and width that pictures are brought to"] = None
    mode: Annotated[Literal["grey", "rgb"] | None, "what pictures are converted to"] = None
    background: Annotated[Colour, "0 to 255 or [red, green, blue]: what lies behind transparent pictures"] = WHITE
    classes: Annotated[tuple[str, ...] | None, "the folders' names in the order of the labels"] = None
    on_error: Annotated[Literal["stop", "skip"], "what happens at a picture that cannot be read"] = "stop"

    @property
    def image_shape(self) -> Shape | None:
        """Known where size and mode are."""
        if self.size is None or self.mode is None:
            return None
        return (1 if self.mode == "grey" else 3, *self.size)

    @property
    def picture_rules(self) -> PictureRules:
        """What the spec says."""
        return PictureRules(self.mode, self.size, self.background)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the spec says."""
        return self.classes or ()

    def of_any_classes(self) -> Self:
        """Without the spec's `classes`; a folder may lack pictures."""
        return self.but(classes=())

    def read(self, root: Path | None, download: bool) -> Found:
        """Read all pictures into memory."""
        root = root or Path()
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        places = split_places(root, named, trained=self.classes == ())
        beside = [place for place in places.values() if place != places["train"]]
        listings = {
            split: read_list(place) if place.is_file() else list_folder(place, beside)
            for split, place in places.items()
        }
        names = self._classes(listings["train"])
        strangers = ordered({name for listing in listings.values() for name in listing.pictures} - set(names))
        readings = {split: _Reading(self, listing, (*names, *strangers)) for split, listing in listings.items()}
        read = {split: reading.images() for split, reading in readings.items()}
        if self.classes != ():
            readings["train"].check_classes(read["train"], names)
        shown = {split: place.name if place.is_file() else f"{place.name}/" for split, place in places.items()}
        checksums = {places[split].name: reading.hash.hexdigest() for split, reading in readings.items()}
        notes = tuple(note for reading in readings.values() for note in reading.notes())
        if "test" not in read:
            read |= split_off(read["train"], self.held_out, places["train"])
            shown["test"] = f"held out of {shown['train']}"
        return Found(read, checksums, names, notes, strangers, shown)

    def _classes(self, listing: Listing) -> tuple[str, ...]:
        """The classes to learn: those of the spec, or all that there are."""
        if not listing.pictures:
            raise DataError(f"{listing.place}: expected one folder for each class, got none", HELP)
        for name in self.classes or ():
            if name not in listing.pictures:
                raise DataError(
                    f"{listing.place / name}: no such folder", f"there are {', '.join(listing.pictures)}; {HELP}"
                )
        return self.classes or tuple(listing.pictures)


class _Reading:
    """One split in the making: what was read, what was skipped, and which sizes and modes there were."""

    def __init__(self, source: ImageFolder, listing: Listing, names: tuple[str, ...]) -> None:
        import hashlib

        self.source, self.listing, self.names = source, listing, names
        self.folder = listing.place
        self.root = listing.place if listing.place.is_dir() else listing.place.parent
        self.sha256 = hashlib.sha256
        self.hash = self.sha256()
        self.kinds: dict[str, dict[str, Path]] = {"sizes": {}, "modes": {}}
        self.skipped: list[Path] = []
        self.conversions: list[str] = []

    def images(self) -> Images:
        """All pictures, by class and name, decoded on all cores; RunError where they would not fit into memory."""
        from concurrent.futures import ThreadPoolExecutor  # not needed to check a spec

        waiting = iter(
            [(path, label) for label, name in enumerate(self.names) for path in self.listing.pictures.get(name, ())]
        )
        pixels: list[Array] = []
        labels: list[int] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while block := list(islice(waiting, BLOCK if pixels else 1)):  # the first one foretells the memory
                for (path, label), found in zip(block, pool.map(self.read, [path for path, _ in block]), strict=True):
                    picture = self.noted(path, *found)
                    if picture is not None:
                        if not pixels:
                            self.foretell(picture)
                        pixels.append(picture)
                        labels.append(label)
        if not pixels:
            raise DataError(f"{self.folder}: expected pictures in the classes' folders, got none", HELP)
        self.alike("modes", "mode: rgb or mode: grey")
        self.alike("sizes", "size: [height, width]")
        return Images(np.stack(pixels), np.array(labels, np.int64))

    def foretell(self, picture: Array) -> None:
        """RunError where as many pictures of that size need more memory than there is."""
        count = sum(len(self.listing.pictures.get(name, ())) for name in self.names)
        shape = "x".join(map(str, picture.shape))
        require_memory(
            COPIES * count * picture.nbytes,
            f"{self.folder}: reading {count:,} pictures of {shape}",
            "make them smaller with data.source.size, or use fewer",
        )

    def check_classes(self, images: Images, names: tuple[str, ...]) -> None:
        """DataError where a class has no picture to learn from."""
        counts = np.bincount(images.labels, minlength=len(names))
        for name, count in zip(names, counts.tolist(), strict=False):
            if not count:
                folder = self.folder / name
                held = [path for path in self.listing.others if folder in path.parents]
                files = f", but other files: {_few(held)}" if held else ""
                raise DataError(
                    f"{folder}: no picture of this class{files}",
                    "put pictures (PNG, JPEG, ...) into it, or remove the folder",
                )

    def read(self, path: Path) -> tuple[bytes, Decoded | DataError]:
        """A file's checksum, and the picture or what is wrong with it; on any thread."""
        try:
            content = path.read_bytes()
        except OSError as error:
            return b"", DataError(f"{path}: cannot be read: {error.strerror}", "give yourself the right to read it")
        digest = self.sha256(content).digest()
        try:
            return digest, read_picture(path, self.source.picture_rules, content)
        except DataError as error:
            return digest, error

    def noted(self, path: Path, digest: bytes, found: Decoded | DataError) -> Array | None:
        """(c, h, w), or None for a picture that is skipped; called in the order of the files."""
        self.hash.update(Path(os.path.relpath(path, self.root)).as_posix().encode() + b"\0" + digest)
        if isinstance(found, DataError):
            if not digest:
                raise found
            if self.source.on_error == "skip":
                self.skipped.append(path)
                return None
            raise DataError(str(found), f"{found.help}, or set data.source.on_error: skip") from found
        self.conversions += found.conversions
        c, h, w = found.pixels.shape
        self.kinds["modes"].setdefault("grey" if c == 1 else "rgb", path)
        self.kinds["sizes"].setdefault(f"{h}x{w}", path)
        return found.pixels

    def alike(self, what: str, cure: str) -> None:
        """DataError where pictures differ in size, or some are grey and others in colour."""
        found = self.kinds[what]
        if len(found) > 1:
            listed = ", ".join(f"{kind} ({path})" for kind, path in list(found.items())[:NAMED])
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            wanted = "one size," if what == "sizes" else "one mode,"
            raise DataError(
                f"{self.folder}: expected pictures of {wanted} got {listed}{more}", f"set data.source.{cure}"
            )

    def notes(self) -> Iterator[str]:
        """What was left out or converted, but for what the spec declares."""
        for what, paths in (("skipped unreadable", self.skipped), ("ignored other", self.listing.others)):
            if paths:
                yield f"{self.folder}: {what} files, {len(paths)} in all: {_few(paths)}"
        untold = [key for key in self.conversions if key not in DECLARED]
        for note in tell(untold, self.source.picture_rules):
            yield f"{self.folder}: {note}"


def _few(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:NAMED])) + (", ..." if len(paths) > NAMED else "")
