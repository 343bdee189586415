"""The base of picture sources whose labels are more than one class for each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cnnspec.data.pictures import PictureSource
from cnnspec.data.rows import Pixels, chosen
from cnnspec.data.siblings import beside
from cnnspec.data.source import Found, Images
from cnnspec.data.store import MEMORY, Store
from cnnspec.diagnostics import DataError

Entry = tuple[Path, Any]  # a picture, and its label as the source found it
Labelled = tuple[tuple[str, ...], Mapping[str, Pixels], list[str]]  # names, labels of each split, notes


class LabelledPictures(PictureSource):
    """Base of these sources: each split is a path under the root; without a test path, a share is held out."""

    train: Annotated[str, "place of the training pictures, under the root"]
    validation: Annotated[str | None, "the same for validation; val beside train, in its name, where it is there"] = (
        None
    )
    test: Annotated[str | None, "the same for testing; test beside train, else a share is held out"] = None

    def has_labels(self, place: Path) -> bool:
        """Tell whether a place that the spec does not name has labels, so that it can validate or test."""
        raise NotImplementedError

    def entries(self, place: Path) -> list[Entry]:
        """Return the picture files of one split, each with its label."""
        raise NotImplementedError

    def labelled(self, found: Mapping[str, list[Entry]], store: Store) -> Labelled:
        """Return the names of classes or values, the labels of each split, large ones in the store, and notes."""
        raise NotImplementedError

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read the pictures and labels of all splits."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        places = {split: (root or Path()) / Path(name) for split, name in named.items() if name is not None}
        notes = list[str]()
        for split in ("validation", "test"):
            there = beside(places["train"], split, Path.exists)
            if split not in places and there is not None:
                if self.has_labels(there):
                    places[split] = there
                else:
                    notes.append(f"{there}: is not read: it has no labels")
        entries: dict[str, list[Entry]] = {}
        for split, place in places.items():
            if not place.exists():
                raise DataError(
                    f"{place}: no such file or folder", "name the folder above it with --data DIR or data.root"
                )
            entries[split] = self.entries(place)
            if not entries[split]:
                raise DataError(f"{place}: expected pictures, got none", "give at least one picture with its label")
        names, labels, more_notes = self.labelled(entries, store)
        notes += more_notes
        read, checksums = dict[str, Images](), {}
        for split, found in entries.items():
            pictures = self.pictures(places[split], [path for path, _ in found], store)
            read[split] = Images(pictures.pixels, chosen(labels[split], pictures.kept))
            checksums[places[split].name] = pictures.checksum(read[split].labels)
            notes += pictures.notes
        shown = {split: place.name for split, place in places.items()}
        self.with_test(read, places, shown)
        kind = self.target_kind
        assert kind is not None
        return Found(read, checksums, names, tuple(notes), (), shown, kind)
