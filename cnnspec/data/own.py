"""The base of sources that read a user's own arrays, whose shape, scale and classes are found in the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, cast

import numpy as np

from cnnspec.data.arrays import Scale
from cnnspec.data.class_labels import Labels, class_names, is_number, read_labels
from cnnspec.data.download import file_checksum
from cnnspec.data.inputs import ONE, Inputs
from cnnspec.data.labels import SLACK, kind_of, names_of, numbers
from cnnspec.data.scale import as_bytes
from cnnspec.data.siblings import beside
from cnnspec.data.source import Found, Images, Source, flat_names, numbered, side_by_side
from cnnspec.data.split import held_out
from cnnspec.data.store import MEMORY, Store
from cnnspec.diagnostics import DataError
from cnnspec.fields import Fraction, Schema, TargetKinds
from cnnspec.files import user_path
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, text
from cnnspec.target import KINDS, Kind, Target

Classes = Annotated[
    int | tuple[str, ...],
    Schema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 100_000},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        },
        lambda value: value if isinstance(value, int) else tuple(value),
    ),
]


@dataclass(frozen=True, slots=True)
class Arrays:
    """Images (n, c, h, w) and labels of one split as its file holds them, and the names that messages give to them."""

    pixels: Array
    labels: Array
    what: str
    labels_what: str
    notes: tuple[str, ...] = ()
    key: str = ""  # key of the images in a store
    named: Mapping[str, Array] = field(default_factory=dict)  # the labels of several targets by name
    inputs: Mapping[str, Array] = field(default_factory=dict)  # the arrays of several inputs; `pixels` is the first


# names of classes or values, names that only other splits have, labels of each split, notes
_Labelled = tuple[tuple[str, ...], tuple[str, ...], Mapping[str, Array], list[str]]


class OwnFiles(Source):
    """Base of sources with files for training, validation and testing; without a test file, a share is held out.

    Labels are whole numbers, also from 1 or -1 and 1, true and false, or text; (n,), (n, 1) or one-hot.
    """

    suffix: ClassVar[str]

    train: Annotated[str, "file with the training images, under the root"]
    validation: Annotated[str | None, "file with the validation images; val.* beside train.* where it is there"] = None
    test: Annotated[str | None, "file with the test images; test.* beside train.*, else a share is held out"] = None
    held_out: Annotated[Fraction, "that share, stratified and always the same"] = 0.2
    classes: Annotated[Classes | None, "number of classes, labels from 0 on, or their names; else labels are names"] = (
        None
    )
    target: Annotated[
        TargetKinds | None,
        "what the labels are, or a mapping from names of several targets; values where some are no whole numbers, "
        "else class",
    ] = None
    scale: Annotated[
        Literal["auto", "1/255", "none"],
        "1/255: values are 0 to 255; none: values are 0 to 1; auto: what the training images are",
    ] = "auto"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names that the spec declares; empty if it declares none."""
        if self.target == "values" or isinstance(self.target, Mapping):
            return ()
        return numbered(self.classes) if isinstance(self.classes, int) else self.classes or ()

    @property
    def target_kind(self) -> Kind | None:
        """The kind of target that the spec declares; None if it declares none."""
        return "several" if isinstance(self.target, Mapping) else cast(Kind | None, self.target)

    @property
    def targets(self) -> Mapping[str, Target]:
        """The named targets that the spec declares; empty if it declares a single one."""
        named = self.target if isinstance(self.target, Mapping) else {}
        return {name: Target(cast(Kind, kind)) for name, kind in named.items()}

    def of_any_classes(self) -> Self:
        """Return the source without the spec's `classes`, if these are only a number."""
        return self if isinstance(self.classes, tuple) else self.but(classes=None)

    def of_scale(self, scale: Scale) -> Self:
        """Return the source with this scale, if the spec leaves the scale to the files."""
        return self.but(scale=scale) if self.scale == "auto" else self

    def places(self, root: Path) -> dict[str, Path]:
        """Return the file of each split: as the spec names it, or by its usual name beside the training file."""
        train = self.located(root, self.train)
        places = {"train": train}
        for split, name in (("validation", self.validation), ("test", self.test)):
            if name is not None:
                places[split] = self.located(root, name)
            else:
                there = beside(train, split, Path.is_file)
                places |= {split: there} if there else {}
        return places

    def located(self, root: Path, name: str) -> Path:
        """Return the path of a file under the root; DataError if there is none."""
        path = root / user_path(name)
        if not path.is_file():
            raise DataError(f"{path}: no such file", "name its folder with --data DIR or data.root")
        return path

    def has_labels(self, path: Path) -> bool:
        """Tell whether a file that the spec does not name has labels, so that it can validate or test."""
        return True

    def read_file(self, path: Path, split: str, store: Store) -> Arrays:
        """Read the images, which may lie in the store, and the labels of one file; DataError if they are not valid."""
        raise NotImplementedError

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Read the file of each split; if there is no test file, a share of the training images is held out."""
        places, notes = self.places(root or Path()), list[str]()
        for split in ("validation", "test"):
            if split in places and getattr(self, split) is None and not self.has_labels(places[split]):
                notes.append(f"{places.pop(split)}: is not read: it has no labels")
        arrays = {split: self.read_file(path, split, store) for split, path in places.items()}
        return self.assembled(places, arrays, notes, store)

    def assembled(
        self,
        places: Mapping[str, Path],
        arrays: Mapping[str, Arrays],
        notes: list[str],
        store: Store = MEMORY,
        inputs: Inputs = ONE,
    ) -> Found:
        """Build the splits from arrays: labels as numbers; images as bytes, or all inputs as joined numbers."""
        inputs = inputs.seen(arrays["train"].inputs)
        for split, found in arrays.items() if not self.targets else ():
            _check_counts(places[split], found)
        kind: Kind = "several" if self.targets else kind_of(arrays["train"].labels, self.target_kind)
        targets, strangers = dict[str, Target](), tuple[str, ...]()
        labels: Mapping[str, Array]
        if kind == "several":
            targets, labels, more_notes = self._by_name(places, arrays)
            names = flat_names(targets)
        else:
            names, strangers, labels, more_notes = (self._classes if kind == "class" else self._numbers)(
                places, arrays, kind
            )
        notes += more_notes
        scale: Scale | Literal["auto"] = self.scale
        read: dict[str, Images] = {}
        for split, found in arrays.items():
            if inputs:
                read[split] = Images(inputs.joined(found.inputs, found.what), labels[split])
                continue
            pixels, own, more = as_bytes(found.pixels, scale, found.what, store, found.key)
            scale = own if split == "train" else scale
            notes += [*found.notes, *more]
            if isinstance(pixels, np.ndarray):
                pixels = store.mapped(pixels, found.key, found.what)
            read[split] = Images(pixels, labels[split])
        shown = {split: path.name for split, path in places.items()}
        if "test" not in read:
            read |= split_off(read["train"], self.held_out, places["train"])
            shown["test"] = f"held out of {places['train'].name}"
        notes = list(dict.fromkeys(notes))
        settled: Scale = "none" if scale == "none" else "1/255"
        checksums = self.checksums(places)
        return Found(read, checksums, names, tuple(notes), strangers, shown, kind, settled, targets, inputs)

    def _by_name(
        self, places: Mapping[str, Path], arrays: Mapping[str, Arrays]
    ) -> tuple[dict[str, Target], dict[str, Array], list[str]]:
        """Read the labels of several named targets, each as if it were the only one."""
        if self.classes is not None:
            raise DataError("data.source.classes: several targets have classes of their own", "leave classes out")
        if not arrays["train"].named:
            message = f"data.source.target: {self.type_name} has one array of labels, not several by name"
            raise DataError(message, "use npz, or csv")
        targets, found, notes = dict[str, Target](), dict[str, list[Array]](), list[str]()
        for name, part in self.targets.items():
            single = self.but(target=part.kind)
            own = {split: replace(read, labels=read.named[name]) for split, read in arrays.items()}
            for split, read in own.items():
                _check_counts(places[split], read)
            reader = single._classes if part.kind == "class" else single._numbers
            names, strangers, labels, more_notes = reader(places, own, part.kind)
            if strangers:
                raise DataError(
                    f"{name}: no training image is of the class {strangers[0]}, which others are",
                    "leave those images out, or add some to the training images",
                )
            targets[name] = replace(part, names=names)
            notes += [f"{name}: {note}" for note in more_notes]
            for split, array in labels.items():
                found.setdefault(split, []).append(array)
        return targets, {split: side_by_side(parts) for split, parts in found.items()}, notes

    def _classes(self, places: Mapping[str, Path], arrays: Mapping[str, Arrays], kind: Kind) -> _Labelled:
        """Read labels that are one class for each image, by class name."""
        labels = {
            split: read_labels(found.labels, len(found.pixels), found.labels_what) for split, found in arrays.items()
        }
        names, note = class_names(labels["train"], self.classes, arrays["train"].labels_what)
        labels = {split: _name_labels(found, self.classes) for split, found in labels.items()}
        strangers: tuple[str, ...] = ()
        if self.classes is None:
            others = dict.fromkeys(name for found in labels.values() for name in found.names)
            strangers = tuple(name for name in others if name not in names)
        positions = {split: found.among((*names, *strangers)) for split, found in labels.items()}
        for split, found in labels.items():
            self._check(places[split], found, positions[split], len(names))
        return names, strangers, positions, [note] if note else []

    def _numbers(self, places: Mapping[str, Path], arrays: Mapping[str, Arrays], kind: Kind) -> _Labelled:
        """Read labels of any kind other than one class for each image."""
        ignore: int | None = getattr(self, "ignore", None)  # tables have none
        if ignore is not None and kind != "mask":
            raise DataError(f"data.source.ignore: is of masks, the target is {KINDS[kind]}", "leave ignore out")
        labels = {
            split: numbers(found.labels, kind, f"{places[split]}: labels", ignore) for split, found in arrays.items()
        }
        for split, found in labels.items():
            if kind != "mask" and found.shape[1:] != labels["train"].shape[1:]:
                raise DataError(
                    f"{places[split]}: expected as many labels an image as in {places['train']}",
                    "bring both to one number",
                )
            if kind == "mask" and found.shape[1:] != arrays[split].pixels.shape[2:]:
                raise DataError(
                    f"{places[split]}: expected maps of {text(arrays[split].pixels.shape[2:])}, which is the images' "
                    f"size, got {text(found.shape[1:])}",
                    "give a map of each image's height and width",
                )
        declared = self.classes if isinstance(self.classes, int) else None
        names = names_of(list(labels.values()), kind, declared)
        if isinstance(self.classes, tuple):
            if len(self.classes) != len(names):
                raise DataError(
                    f"{places['train']}: expected {len(self.classes)} labels, as data.source.classes names, "
                    f"got {len(names)}",
                    "give one name for each label",
                )
            names = self.classes
        hint = "labels are numbers to predict (target: values)"
        if self.target is None and _are_shares(labels["train"]):
            hint += "; where each row is the probabilities of classes, write data.source.target: shares"
        return names, (), labels, [hint] if self.target is None else []

    def checksums(self, places: Mapping[str, Path]) -> dict[str, str]:
        """Return the SHA-256 of each file, by file name."""
        return {path.name: file_checksum(path) for path in places.values()}

    def _check(self, path: Path, labels: Labels, positions: Array, classes: int) -> None:
        """Raise DataError if a label is not among the classes that the spec declares."""
        if self.classes is None or (positions >= 0).all():
            return
        image = int(np.flatnonzero(positions < 0)[0])
        label = labels.names[labels.positions[image]]
        if isinstance(self.classes, int):
            if is_number(label):
                whole = [name for name in labels.names if is_number(name)]
                raise DataError(
                    f"{path}: label {label} of image {image} is none of the {classes} classes (0 to {classes - 1}); "
                    f"labels are {_span(whole)}",
                    "leave data.source.classes out, so that each label is a class, or correct the label",
                )
            raise DataError(
                f"{path}: label '{label}' of image {image} is no number",
                "leave data.source.classes out, or write the names there",
            )
        if is_number(label):
            raise DataError(
                f"{path}: label {label} of image {image} has no name: data.source.classes names the labels 0 to "
                f"{len(self.classes) - 1}",
                "name the class of every label from 0 on; where the first is 1, save labels less 1",
            )
        raise DataError(
            f"{path}: label '{label}' of image {image} is none of the classes {', '.join(self.classes)}",
            "correct the label, or write all names in data.source.classes",
        )


def _span(numbers: list[str]) -> str:
    """Return the range of numbers that labels have."""
    found = sorted(map(int, numbers))
    return f"{found[0]} to {found[-1]}"


def _are_shares(labels: Array) -> bool:
    """Tell whether the rows of numbers could be probabilities."""
    return labels.shape[1] > 1 and bool((labels >= 0).all() and np.allclose(labels.sum(axis=1), 1, atol=SLACK))


def _check_counts(path: Path, arrays: Arrays) -> None:
    """Raise DataError if a file has no image, or not one label for each image."""
    images, shape = len(arrays.pixels), arrays.labels.shape
    if images == 0:
        raise DataError(f"{path}: expected images, got none", "give a file with at least one image")
    if images not in shape[:2]:
        raise DataError(
            f"{path}: expected one label for each of the {images:,} images, got {(*shape, 0)[0]:,}",
            "images and labels must come in the same order and number",
        )


def _name_labels(labels: Labels, declared: int | tuple[str, ...] | None) -> Labels:
    """Return numbered labels with the declared names: label i has name i."""
    if not isinstance(declared, tuple) or not all(map(is_number, labels.names)):
        return labels
    if set(labels.names) <= set(declared):
        return labels
    numbers = [int(name) for name in labels.names]
    names = tuple(declared[n] if 0 <= n < len(declared) else str(n) for n in numbers)
    return Labels(labels.positions, names)


def split_off(images: Images, share: float, path: Path) -> dict[str, Images]:
    """Hold out a share of the images for testing; the only image of a class stays in the training split."""
    total = len(images.labels)
    if total == 1:
        raise DataError(f"{path}: expected two images or more, to hold one out, got 1", "add images")
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


def check_shape(shape: Shape, declared: Shape | None, subject: str) -> None:
    """Raise DataError if images do not have the shape that the spec declares."""
    if declared is not None and shape != declared:
        raise DataError(
            f"{subject}: expected images of {text(declared)}, which is the source's shape, got {text(shape)}",
            f"write data.source.shape: [{', '.join(map(str, shape))}], or give other images",
        )
