"""A source of pictures with masks, which hold the class of every pixel; both are paired by file name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from cnnspec.data.decode import picture_bytes
from cnnspec.data.labelled_pictures import Entry, Labelled, LabelledPictures
from cnnspec.data.labels import IGNORED
from cnnspec.data.picture_files import SUFFIXES, files_in
from cnnspec.data.pictures import COPIES, NAMED, decoder, in_order
from cnnspec.data.rows import Pixels
from cnnspec.data.source import numbered
from cnnspec.data.store import Store, Writing, key_of, stamps
from cnnspec.data.transforms import Resize
from cnnspec.diagnostics import DataError
from cnnspec.fields import Byte, ClassCount
from cnnspec.files import reason
from cnnspec.kernels.step import Array
from cnnspec.listing import first_names
from cnnspec.registry import register
from cnnspec.shapes import text
from cnnspec.target import VOID, Kind

BLACK_AND_WHITE = {0, 255}


@register("image_masks")
class ImageMasks(LabelledPictures):
    """Pictures in train/images/ and, under the same names, masks in train/masks/, under the root; needs Pillow.

    Beside train/ the folders val/ and test/ are the other splits, where they are there and have both.
    A mask has the number of a class in each pixel, as grey or as the index of a palette; masks of black and white alone
    mean the classes 0 and 1. Masks are brought to another size without mixing classes.
    """

    train: Annotated[str, "folder of images/ and masks/, under the root"] = "train"
    images: Annotated[str, "name of the folder with the pictures"] = "images"
    masks: Annotated[str, "name of the folder with the masks"] = "masks"
    classes: Annotated[ClassCount | None, "their number; counted in the masks where it is left out"] = None
    ignore: Annotated[Byte | None, "the number that pixels of no class have, which nothing counts"] = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The numbers of the classes, if the spec says how many there are."""
        return numbered(self.classes) if self.classes else ()

    @property
    def target_kind(self) -> Kind:
        """`mask`: a class for each pixel."""
        return "mask"

    def has_labels(self, place: Path) -> bool:
        """Tell whether a folder has pictures and masks."""
        return (place / self.images).is_dir() and (place / self.masks).is_dir()

    def entries(self, place: Path) -> list[Entry]:
        """Return each picture with the path of its mask."""
        pictures, masks = (
            {path.relative_to(place / name).with_suffix("").as_posix(): path for path in _pictures(place / name)}
            for name in (self.images, self.masks)
        )
        for one, other, what in ((pictures, masks, "mask"), (masks, pictures, "picture")):
            alone = [path for name, path in one.items() if name not in other]
            if alone:
                folder = place / (self.masks if what == "mask" else self.images)
                more = f" and {len(alone) - 1:,} more" if len(alone) > 1 else ""
                raise DataError(
                    f"{alone[0]}{more}: no {what} of the same name in {folder}",
                    "name pictures and masks alike, or name their folders with images and masks in data.source",
                )
        return [(path, masks[name]) for name, path in pictures.items()]

    def labelled(self, found: Mapping[str, list[Entry]], store: Store) -> Labelled:
        """Read all masks, which must have one size; large ones lie in the store."""
        read = {split: self._maps([mask for _, mask in entries], store) for split, entries in found.items()}
        present = {value for _, record in read.values() for value in record["present"]} - {self.ignore}
        meaning = _Meaning(self.ignore, present <= BLACK_AND_WHITE and 255 in present)
        if not present:
            raise DataError("masks: expected pixels of a class, got none", "leave data.source.ignore out")
        names = self.class_names or numbered(max(present) // meaning.step + 1)
        for split, (_, record) in read.items():
            highest = record["highest"] // meaning.step
            number, most = int(highest.argmax()), highest.max()
            if most >= len(names) or most == VOID:
                raise DataError(
                    f"{found[split][number][1]}: expected classes 0 to {min(len(names), VOID) - 1}, got {most}",
                    IGNORED if most == VOID else "raise data.source.classes, or give the pixels one of the classes",
                )
        classes = {str(value // meaning.step) for value in present}
        absent = [name for name in names if name not in classes]
        notes = [f"masks: no pixel is of class {first_names(absent, NAMED)}"] if absent else []
        labels = {
            split: store.through(maps, meaning, [meaning], "masks: numbering their classes")
            for split, (maps, _) in read.items()
        }
        return names, labels, notes

    def _maps(self, masks: list[Path], store: Store) -> tuple[Pixels, Mapping[str, Any]]:
        """Return the pixels of all masks, the numbers that occur, and each mask's highest number that is not ignored.

        The masks are decoded on all cores, or found in the store.
        """
        shape = self._map(masks[0]).shape

        def write(out: Writing) -> None:
            present, highest = np.zeros(256, bool), list[int]()
            with closing(in_order(self._map, masks)) as maps:
                for mask, found in maps:
                    if found.shape != shape:
                        raise DataError(
                            f"{mask}: expected masks of one size, {text(shape)}, got {text(found.shape)}",
                            "set size: [height, width] in data.source",
                        )
                    there = np.bincount(found.ravel(), minlength=256) > 0
                    present |= there
                    if self.ignore is not None:
                        there[self.ignore] = False
                    highest.append(int(np.flatnonzero(there).max(initial=0)))
                    out.add(found[None])
            out.record |= {"present": np.flatnonzero(present).tolist(), "highest": np.array(highest)}

        key = key_of("masks", decoder(), self.size, self.ignore, *stamps(masks))
        progress = f"{masks[0].parent}: reading {len(masks):,} masks of {text(shape)}"
        return store.find(key) or store.make(key, (len(masks), *shape), np.uint8, progress, write, COPIES)

    def _map(self, mask: Path) -> Array:
        """Return one mask (h, w), resized to the declared size."""
        mask_classes = read_mask(mask)
        return mask_classes if self.size is None else Resize(size=self.size).move_maps(mask_classes[None])[0]


@dataclass(frozen=True, slots=True)
class _Meaning:
    """Converts the numbers in masks to classes, and the ignored number to the one that means no class."""

    ignore: int | None
    black_and_white: bool  # whether the numbers are 0 and 255

    @property
    def step(self) -> int:
        """The number in masks that stands for class 1."""
        return 255 if self.black_and_white else 1

    def __call__(self, maps: Array) -> Array:
        """Return the maps (n, h, w) with classes in place of the numbers in masks."""
        classes = maps // np.uint8(255) if self.black_and_white else maps
        if self.ignore is None or (self.ignore == VOID and classes is maps):
            return classes
        return np.where(maps == self.ignore, np.uint8(VOID), classes)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "name the folder above it with --data DIR or data.root")
    return [path for path in files_in(folder) if path.suffix.lower() in SUFFIXES]


def read_mask(path: Path) -> Array:
    """Return the class (h, w) of each pixel of a mask file, from its grey or palette values; DataError if unclear."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image_masks needs Pillow", "pip install 'cnnspec[report]'") from error
    try:
        with Image.open(BytesIO(picture_bytes(path))) as picture:
            values, inexact = np.asarray(picture), picture.format == "JPEG"
    except Exception as error:  # Pillow raises what it likes on damaged bytes
        raise DataError(
            f"{path}: cannot be read as a picture: {reason(error)}", "save the mask as a PNG file"
        ) from error
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{path}: expected the number of a class, 0 to 255, in each pixel, got {values.dtype} {values.shape}",
            "save the mask as a grey PNG, or one with a palette",
        )
    if inexact and not set(np.unique(values).tolist()) <= BLACK_AND_WHITE:
        raise DataError(
            f"{path}: is a JPEG file, which changes the numbers of classes: it has {values.min()} to {values.max()}",
            "save the masks anew as PNG; from black and white: numpy.where(mask > 127, 255, 0).astype('uint8')",
        )
    return values.astype(np.uint8)
