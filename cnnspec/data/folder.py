"""A source of pictures in folders, one folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.data.classes import ordered
from cnnspec.data.picture_files import HELP, NO_PICTURE, Listing, list_folder, split_places
from cnnspec.data.picture_list import has_labels, read_list
from cnnspec.data.pictures import NAMED, PictureSource, left_out
from cnnspec.data.source import Found, Images
from cnnspec.data.store import MEMORY, Store
from cnnspec.diagnostics import DataError
from cnnspec.listing import first_names
from cnnspec.registry import register


@register("image_folder")
class ImageFolder(PictureSource):
    """Pictures in train/CLASS/, perhaps val/CLASS/ and test/CLASS/, or just CLASS/, under the root; needs Pillow.

    Classes are the folders' names: in the order of numbers where all are numbers, else alphabetical. Pictures of a
    class may lie in folders within its folder; hidden files and those of operating systems are not looked at. A table
    of `file` and `label` may take the place of each folder; beside train.csv, val.csv and test.csv are then the other
    splits. Pictures of one size and one mode need neither `size` nor `mode`; others are resized and converted to them.
    """

    train: Annotated[
        str | None, "folder of the classes' folders, or a table, under the root; train/, or the root itself"
    ] = None
    validation: Annotated[str | None, "the same for validation; val/, valid/ or validation/ where it is there"] = None
    test: Annotated[str | None, "the same for testing; test/ where it is there, else a share is held out"] = None
    classes: Annotated[tuple[str, ...] | None, "the folders' names in the order of the labels"] = None

    any_classes: ClassVar[bool] = False  # whether the classes are those of a trained network

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names that the spec gives; empty if it gives none."""
        return self.classes or ()

    def of_any_classes(self) -> ImageFolder:
        """Return the source for a trained network: folders of other classes, and none for some, are then no error."""
        return _OfAnyClasses(**vars(self))

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read all pictures."""
        root = root or Path()
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        places = split_places(root, named, trained=self.any_classes)
        notes = list[str]()
        for split in ("validation", "test"):
            if split in places and named[split] is None and places[split].is_file() and not has_labels(places[split]):
                notes.append(f"{places.pop(split)}: is not read: it has no labels")
        others = [place for place in places.values() if place != places["train"]]
        skip = self.on_error == "skip"
        listings = {
            split: read_list(place, skip=skip) if place.is_file() else list_folder(place, others)
            for split, place in places.items()
        }
        names = self._classes(listings["train"])
        strangers = ordered({name for listing in listings.values() for name in listing.pictures} - set(names))
        read, checksums = dict[str, Images](), {}
        for split, listing in listings.items():
            read[split], checksums[places[split].name], more_notes = self._images(listing, (*names, *strangers), store)
            notes += [*more_notes, *left_out(listing.place, "ignored other", listing.others)]
            if listing.torn:
                torn = first_names(listing.torn, NAMED)
                notes.append(f"{listing.place}: the same picture is listed in several classes: {torn}")
        if not self.any_classes:
            _check_classes(listings["train"], read["train"], names)
        shown = {split: place.name if place.is_file() else f"{place.name}/" for split, place in places.items()}
        undivided = read["train"] if self.any_classes and places["train"] == root and "test" not in read else None
        self.with_test(read, places, shown)
        return Found(read, checksums, names, tuple(notes), strangers, shown, undivided=undivided)

    def _classes(self, listing: Listing) -> tuple[str, ...]:
        """Return the classes to learn: those of the spec, or else one for each folder."""
        if not listing.pictures:
            raise DataError(f"{listing.place}: expected one folder for each class, got none", HELP)
        if self.any_classes:  # in the order of the training, by which its images are shuffled and known
            known = [name for name in self.classes or () if name in listing.pictures]
            return (*known, *(name for name in listing.pictures if name not in known))
        for name in self.classes or ():
            if name not in listing.pictures:
                raise DataError(
                    f"{listing.place / name}: no such folder", f"there are {', '.join(listing.pictures)}; {HELP}"
                )
        return self.classes or tuple(listing.pictures)

    def _images(self, listing: Listing, names: Sequence[str], store: Store) -> tuple[Images, str, tuple[str, ...]]:
        """Return the images of one split, ordered by class and file name, their checksum, and notes for the user."""
        files = [(path, label) for label, name in enumerate(names) for path in listing.pictures.get(name, ())]
        if not files:
            raise DataError(f"{listing.place}: expected pictures in the classes' folders, got none", HELP)
        pictures = self.pictures(listing.place, [path for path, _ in files], store)
        labels = np.array([label for _, label in files], np.int64)[pictures.kept]
        return Images(pictures.pixels, labels), pictures.checksum(labels), pictures.notes


class _OfAnyClasses(ImageFolder):
    any_classes = True


def _check_classes(listing: Listing, images: Images, names: Sequence[str]) -> None:
    """Raise DataError if a class has no training picture."""
    counts = np.bincount(images.labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=False):
        if not count:
            folder = listing.place / name
            held = [path for path in listing.others if folder in path.parents]
            files = f", but other files: {first_names(held, NAMED)}" if held else ""
            raise DataError(
                f"{folder}: no picture of this class{files}",
                NO_PICTURE,
            )
