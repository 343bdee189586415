"""Pictures in folders, one folder a class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from cnnspec.data.own import split_off
from cnnspec.data.source import Found, Images, Source
from cnnspec.diagnostics import DataError
from cnnspec.fields import Fraction, Pair
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {"grey": "L", "rgb": "RGB"}  # by Pillow's names
NAMED = 3  # files that a message names before it counts the others


@register("image_folder")
class ImageFolder(Source):
    """Pictures in train/CLASS/ and perhaps test/CLASS/, under the root; needs Pillow.

    Classes are the folders' names in alphabetical order. Pictures of one size and one mode need neither `size` nor
    `mode`; others are resized and converted to them.
    """

    train: Annotated[str, "folder of the classes' folders of training pictures, under the root"] = "train"
    test: Annotated[str | None, "the same for testing; without it a share of the others is held out"] = None
    held_out: Annotated[Fraction, "that share, stratified and always the same"] = 0.2
    size: Annotated[Pair | None, "height and width that pictures are brought to"] = None
    mode: Annotated[Literal["grey", "rgb"] | None, "what pictures are converted to"] = None
    classes: Annotated[tuple[str, ...] | None, "the folders' names in the order of the labels"] = None
    on_error: Annotated[Literal["stop", "skip"], "what happens at a picture that cannot be read"] = "stop"

    @property
    def image_shape(self) -> Shape | None:
        """Known where size and mode are."""
        if self.size is None or self.mode is None:
            return None
        return (1 if self.mode == "grey" else 3, *self.size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the spec says."""
        return self.classes or ()

    def read(self, root: Path | None, download: bool) -> Found:
        """Read all pictures into memory."""
        named = {"train": self.train, "test": self.test}
        folders = {split: (root or Path()) / name for split, name in named.items() if name is not None}
        names = self.classes or _classes(folders["train"])
        readings = {split: _Reading(self, folder, names) for split, folder in folders.items()}
        read = {split: reading.images() for split, reading in readings.items()}
        return Found(
            split_off(read, self.held_out, folders["train"]),
            {named[split] or split: reading.hash.hexdigest() for split, reading in readings.items()},
            names,
            tuple(note for reading in readings.values() for note in reading.notes()),
        )


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "name the folder above it with --data DIR or data.root")
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise DataError(f"{folder}: expected one folder for each class, got none", "put pictures into DIR/train/CLASS/")
    return names


class _Reading:
    """One split in the making: what was read, what was skipped, and which sizes and modes there were."""

    def __init__(self, source: ImageFolder, folder: Path, names: tuple[str, ...]) -> None:
        import hashlib

        self.source, self.folder, self.names = source, folder, names
        self.hash = hashlib.sha256()
        self.kinds: dict[str, dict[str, Path]] = {"sizes": {}, "modes": {}}
        self.skipped: list[Path] = []
        self.ignored: list[Path] = []

    def images(self) -> Images:
        """All pictures, by class and name."""
        pixels, labels = [], []
        for path, label in self.files():
            picture = self.picture(path)
            if picture is not None:
                pixels.append(picture)
                labels.append(label)
        if not pixels:
            raise DataError(f"{self.folder}: expected pictures in the classes' folders, got none", _where(self.source))
        self.alike("modes", "mode: rgb or mode: grey")
        self.alike("sizes", "size: [height, width]")
        return Images(np.stack(pixels), np.array(labels, np.int64))

    def files(self) -> Iterator[tuple[Path, int]]:
        for label, name in enumerate(self.names):
            folder = self.folder / name
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder", _where(self.source))
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in SUFFIXES:
                    yield path, label
                elif not path.name.startswith("."):
                    self.ignored.append(path)

    def picture(self, path: Path) -> Array | None:
        """(c, h, w), or None for a picture that is skipped."""
        import warnings

        try:
            from PIL import Image
        except ImportError as error:
            raise DataError("image_folder needs Pillow", "pip install 'cnnspec[report]'") from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a picture with a warning is damaged, or a bomb
                self.hash.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
                with Image.open(path) as picture:
                    mode = MODES[self.source.mode] if self.source.mode else picture.mode
                    pixels = np.asarray(self.sized(picture.convert(mode)))
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            if self.source.on_error == "skip":
                self.skipped.append(path)
                return None
            help = "repair or remove it, or set data.source.on_error: skip"
            raise DataError(f"{path}: cannot be read as a picture: {error}", help) from error
        self.kinds["modes"].setdefault(mode, path)
        self.kinds["sizes"].setdefault(f"{pixels.shape[0]}x{pixels.shape[1]}", path)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def sized(self, picture: Picture) -> Picture:
        from PIL import Image

        if self.source.size is None:
            return picture
        return picture.resize(self.source.size[::-1], Image.Resampling.BILINEAR)

    def alike(self, what: str, cure: str) -> None:
        """DataError where pictures differ in size or mode, or have a mode that is neither grey nor colour."""
        found = self.kinds[what]
        odd = what == "modes" and not set(found) <= set(MODES.values())
        if len(found) > 1 or odd:
            listed = ", ".join(f"{kind} ({path})" for kind, path in list(found.items())[:NAMED])
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            wanted = "one size" if what == "sizes" else "one mode, L or RGB,"
            raise DataError(
                f"{self.folder}: expected pictures of {wanted} got {listed}{more}", f"set data.source.{cure}"
            )

    def notes(self) -> Iterator[str]:
        """What was left out."""
        for what, paths in (("skipped unreadable", self.skipped), ("ignored other", self.ignored)):
            if paths:
                listed = ", ".join(map(str, paths[:NAMED])) + (", ..." if len(paths) > NAMED else "")
                yield f"{self.folder}: {what} files, {len(paths)} in all: {listed}"


def _where(source: ImageFolder) -> str:
    return f"put pictures into DIR/{source.train}/CLASS/ and name DIR with --data DIR or data.root"
