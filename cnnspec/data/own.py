"""A person's own data: what sources have in common whose shape and classes the files tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.data.download import file_checksum
from cnnspec.data.labels import kind_of, names_of, numbers
from cnnspec.data.source import Found, Images, Source, check_labels, numbered
from cnnspec.data.split import held_out
from cnnspec.diagnostics import DataError
from cnnspec.fields import Fraction, PositiveInt
from cnnspec.shapes import text
from cnnspec.target import Kind


class OwnFiles(Source):
    """Base of sources with one place for training and one for testing, or a share of the first that is held out."""

    suffix: ClassVar[str]

    train: Annotated[str, "file with the training images, under the root"]
    test: Annotated[str | None, "file with the test images; without it a share of the others is held out"] = None
    held_out: Annotated[Fraction, "that share, stratified and always the same"] = 0.2
    classes: Annotated[PositiveInt | None, "number of classes; counted by the labels where it is left out"] = None
    target: Annotated[
        Literal["class", "shares", "classes", "values", "mask"] | None,
        "what the labels are; values where some are no whole numbers, else class",
    ] = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Numbers, where the spec says how many."""
        return numbered(self.classes) if self.classes and self.target != "values" else ()

    @property
    def target_kind(self) -> Kind | None:
        """What the spec says."""
        return self.target

    def read_file(self, path: Path, split: str) -> Images:
        """The images and labels of one file; DataError where something is not right."""
        raise NotImplementedError

    def read(self, root: Path | None, download: bool) -> Found:
        """Read both files, or one, and cut it."""
        named = {"train": self.train, "test": self.test}
        paths = {split: self._path(root, name) for split, name in named.items() if name is not None}
        read = {split: self._checked(path, split) for split, path in paths.items()}
        checksums = {path.name: file_checksum(path) for path in paths.values()}
        kind = kind_of(read["train"].labels, self.target)
        if kind != "class":
            return self._of_numbers(read, kind, paths, checksums)
        classes = self.classes or 1 + max(int(images.labels.max()) for images in read.values())
        for split, images in read.items():
            check_labels(images.labels, classes, paths[split])
        if "test" not in read:
            read |= split_off(read["train"], self.held_out, paths["train"])
        return Found(read, checksums, numbered(classes))

    def _of_numbers(
        self, read: dict[str, Images], kind: Kind, paths: dict[str, Path], checksums: dict[str, str]
    ) -> Found:
        """Labels that are not one class an image."""
        found = {
            split: Images(images.pixels, numbers(images.labels, kind, f"{paths[split]}: labels"))
            for split, images in read.items()
        }
        shapes = {images.labels.shape[1:] if kind != "mask" else () for images in found.values()}
        if len(shapes) > 1:
            raise DataError(
                f"{paths['test']}: expected as many labels an image as in {paths['train']}", "bring both to one number"
            )
        for split, images in found.items():
            if kind == "mask" and images.labels.shape[1:] != images.pixels.shape[2:]:
                raise DataError(
                    f"{paths[split]}: expected maps of {text(images.pixels.shape[2:])}, which is the images' size, "
                    f"got {text(images.labels.shape[1:])}",
                    "give a map of each image's height and width",
                )
        names = names_of([images.labels for images in found.values()], kind, self.classes)
        notes = ["labels are numbers to predict (target: values)"] if self.target is None else []
        if "test" not in found:
            found |= split_off(found["train"], self.held_out, paths["train"])
        return Found(found, checksums, names, tuple(notes), kind=kind)

    def _path(self, root: Path | None, name: str) -> Path:
        path = (root or Path()) / name
        if not path.is_file():
            raise DataError(f"{path}: no such file", "name its folder with --data DIR or data.root")
        return path

    def _checked(self, path: Path, split: str) -> Images:
        images = self.read_file(path, split)
        if len(images.labels) == 0:
            raise DataError(f"{path}: expected images, got none", "give a file with at least one image")
        if len(images.labels) != len(images.pixels):
            raise DataError(
                f"{path}: expected one label for each of the {len(images.pixels):,} images, got {len(images.labels):,}",
                "images and labels must come in the same order and number",
            )
        return images


def split_off(images: Images, share: float, path: Path) -> dict[str, Images]:
    """Train and test, of a share of the images; the only image of a class stays in train."""
    total = len(images.labels)
    count = int(np.rint(share * total))
    if not 0 < count < total:
        raise DataError(
            f"{path}: expected to hold out 1 to {total - 1} of {total} images, got {count}",
            "change held_out, or name a file for test",
        )
    split = held_out(images, count)
    if not len(split["test"].labels):
        raise DataError(
            f"{path}: expected a class with two images or more to hold one out, got none",
            "name images for test, or add images",
        )
    return split
