"""What a data source is: where images and labels come from, and what is known of them before a file is read."""

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
    """Pixels (n, c, h, w) as bytes, and labels (n, ...) as their target says: classes (n,) are int64."""

    pixels: Pixels
    labels: Pixels  # in a file only where they are maps

    def chosen(self, rows: Array) -> Images:
        """Some of them, by their numbers."""
        return Images(chosen(self.pixels, rows), chosen(self.labels, rows))


@dataclass(frozen=True, slots=True)
class Found:
    """What a source read: its splits train, test and perhaps validation, and the SHA-256 of each file.

    Labels are positions in `class_names`, the classes of the training images, and behind them in `strangers`, the
    classes that only the other splits have; values have their names there. `notes` say what was left out or converted,
    and that a set is only a part of the published one; `places` say where a person finds each split.
    """

    splits: Mapping[str, Images]
    checksums: Mapping[str, str]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "class"
    scale: Scale = "1/255"  # what arrays of numbers were: 0 to 255, or 0 to 1
    targets: Mapping[str, Target] = field(default_factory=dict)  # of the kind `several`: with their names, in order
    inputs: Inputs = ONE  # of several what is known of them; images are then numbers (n, elements)


class Source(Declaration):
    """Base of all data sources."""

    kind: ClassVar[str] = "source"
    own_files: ClassVar[bool] = True  # whether it reads a person's own files, beside the spec where no root is named
    several_inputs: ClassVar[bool] = False  # whether it has `read_inputs`
    chiral: ClassVar[bool] = False  # whether a mirrored image is of another class, or of none

    @property
    def image_shape(self) -> Shape | None:
        """The shape of its images, or None where only the files tell."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes by label, or none where only the files tell."""
        return ()

    @property
    def picture_rules(self) -> PictureRules:
        """How picture files become its images: what a trained network is asked about is read alike."""
        return PictureRules()

    @property
    def target_kind(self) -> Kind | None:
        """What its labels are, or None where only the files tell."""
        return "class"

    @property
    def targets(self) -> Mapping[str, Target]:
        """Where its labels are of several targets, these by name, as far as they are known before a file is read."""
        return {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many images its splits have, as far as that is known before a file is read."""
        return {}

    def of_any_classes(self) -> Self:
        """The same source without its own say on which classes there are, for a network that knows its classes."""
        return self

    def of_scale(self, scale: Scale) -> Self:
        """The same source for a network whose training images had that scale."""
        return self

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read and check its files; DataError where something is not right.

        `download` allows to fetch files that are missing; large pixels may be put into `store`.
        """
        raise NotImplementedError

    def read_inputs(self, inputs: Inputs, root: Path | None) -> Found:
        """The same for a network with several inputs: numbers (n, elements), as `Inputs.joined` gives them."""
        raise DataError(f"data.source: {self.type_name} gives one input, not several by name", "use npz or synthetic")


def check_labels(labels: Array, classes: int, file: str | Path) -> None:
    """DataError where a label names no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{file}: label {labels[first]} of image {first} is none of the {classes} classes (0 to {classes - 1})",
            "the file is damaged or belongs to another data set",
        )


def side_by_side(labels: Sequence[Array]) -> Array:
    """Labels of several targets (n,) or (n, k) behind one another, as numbers (n, k) in all."""
    return np.concatenate([np.reshape(part, (len(part), -1)) for part in labels], axis=1).astype(np.float32)


def flat_names(targets: Mapping[str, Target]) -> tuple[str, ...]:
    """The names of all classes and values of several targets, each behind that of its target."""
    return tuple(f"{target}.{name}" for target, part in targets.items() for name in part.names)


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have only numbers."""
    return tuple(map(str, range(classes)))
