"""The base of data sources: where images and labels come from, and what is known of them before a file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from cnnspec.data.arrays import Scale
from cnnspec.data.decode import PictureRules
from cnnspec.data.inputs import ONE, Inputs
from cnnspec.data.rows import Pixels, chosen
from cnnspec.data.store import MEMORY, Store
from cnnspec.diagnostics import DataError
from cnnspec.fields import Declaration
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.target import Kind, Target


@dataclass(frozen=True, slots=True)
class Images:
    """Pixels (n, c, h, w) as bytes, and labels (n, ...) whose form depends on the target: classes (n,) are int64."""

    pixels: Pixels
    labels: Pixels  # they lie in a file only if they are maps

    def chosen(self, rows: Array) -> Images:
        """Return the images with these indices."""
        return Images(chosen(self.pixels, rows), chosen(self.labels, rows))


@dataclass(frozen=True, slots=True)
class Found:
    """What a source has read: its train, test and perhaps validation split, and the SHA-256 of each file.

    Labels are positions in `class_names`, the classes of the training images, followed by `strangers`, classes that
    occur only in other splits; for values, `class_names` are the names of the values. `notes` say what was left out or
    converted, and whether a published set is incomplete; `places` name the file or folder of each split.
    """

    splits: Mapping[str, Images]
    checksums: Mapping[str, str]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "class"
    scale: Scale = "1/255"  # the scale of arrays: 0 to 255, or 0 to 1
    targets: Mapping[str, Target] = field(default_factory=dict)  # for the kind `several`: the targets by name, in order
    inputs: Inputs = ONE  # properties of several inputs; images are then numbers (n, elements)
    undivided: Images | None = None  # all images of a folder without splits, for a network that may not know them


class Source(Declaration):
    """Base of all data sources."""

    kind: ClassVar[str] = "source"
    own_files: ClassVar[bool] = True  # whether it reads the user's files, by default beside the spec
    several_inputs: ClassVar[bool] = False  # whether it has `read_inputs`
    chiral: ClassVar[bool] = False  # whether a mirrored image is of another class, or of none

    @property
    def image_shape(self) -> Shape | None:
        """The shape of an image; None if it is only found in the files."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of their labels; empty if they are only found in the files."""
        return ()

    @property
    def picture_rules(self) -> PictureRules:
        """How picture files become images; pictures that a trained network is asked about follow the same rules."""
        return PictureRules()

    @property
    def target_kind(self) -> Kind | None:
        """The kind of target that the labels are; None if it is only found in the files."""
        return "class"

    @property
    def targets(self) -> Mapping[str, Target]:
        """The targets by name, if there are several, as far as they are known before a file is read."""
        return {}

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of images in each split, as far as it is known before a file is read."""
        return {}

    def of_any_classes(self) -> Source:
        """Return the source without the classes that the spec declares, for a network that knows its own."""
        return self

    def of_scale(self, scale: Scale) -> Self:
        """Return the source with a fixed scale, for a network whose training images had it."""
        return self

    def images_in(self, path: Path) -> Array | None:
        """Return the images (n, c, h, w) of one file in a format of this source alone; None for any other file."""
        return None

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read and check the files; DataError if something is missing, damaged or does not fit.

        Missing files may be fetched if `download` is set; large pixels may be put into `store`.
        """
        raise NotImplementedError

    def read_inputs(self, inputs: Inputs, root: Path | None) -> Found:
        """Read the data of a network with several inputs: numbers (n, elements), as `Inputs.joined` returns them."""
        raise DataError(f"data.source: {self.type_name} gives one input, not several by name", "use npz or synthetic")


def check_labels(labels: Array, classes: int, file: str | Path) -> None:
    """Raise DataError if a label is not the number of a class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{file}: label {labels[first]} of image {first} is none of the {classes} classes (0 to {classes - 1})",
            "the file is damaged or belongs to another data set",
        )


def side_by_side(labels: Sequence[Array]) -> Array:
    """Concatenate the labels (n,) or (n, k) of several targets along the second axis, in float32."""
    return np.concatenate([np.reshape(part, (len(part), -1)) for part in labels], axis=1).astype(np.float32)


def flat_names(targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Return the names TARGET.NAME of all classes and values of several targets, in order."""
    return tuple(f"{target}.{name}" for target, part in targets.items() for name in part.names)


def numbered(classes: int) -> tuple[str, ...]:
    """Return the names of classes that have none: their numbers, counted from 0."""
    return tuple(map(str, range(classes)))
