"""From the `data` section to images that training can use."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.data.arrays import Scale
from cnnspec.data.classes import by_name
from cnnspec.data.inputs import ONE, Inputs
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.published import cache_folder
from cnnspec.data.rows import Pixels
from cnnspec.data.settings import DataSettings, Validation
from cnnspec.data.source import Found, Images, Source
from cnnspec.data.split import fold_of, stratified
from cnnspec.data.store import Store, Watch
from cnnspec.data.transforms import Resize
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.target import CLASS, Target, measured, measured_by_name


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split: pixels (n, c, h, w) as bytes after the geometric transforms, and labels (n, ...)."""

    pixels: Pixels
    labels: Pixels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Array, Any]]:
        """Yield each image (c, h, w) with its label."""
        for index in range(len(self)):
            yield self.pixels[index], self.labels[index]


@dataclass(frozen=True, slots=True)
class Data:
    """The splits of a source, stratified by the seed and without overlap, and the pipeline that made their images."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    pipeline: Pipeline
    checksums: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # sentences on what was left out or converted
    places: Mapping[str, str] = field(default_factory=dict)  # the file or folder of each split, for messages
    target: Target = CLASS  # the target, with statistics of the training labels

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def summary(self) -> str:
        """Return a line with the number of images in each split, where they are from, and the number of classes."""
        counts = [f"{len(self.train):,} training images{self._source_text('train')}"]
        counts += [
            f"{len(split):,} {name}{self._source_text(name)}" for name, split in self.splits.items() if name != "train"
        ]
        if self.target.parts:
            return f"{', '.join(counts)}, targets {', '.join(self.target.parts)}"
        number = len(self.class_names)
        noun, several = ("value", "values") if self.target.kind == "values" else ("class", "classes")
        return ", ".join(counts) + (f", {number} {noun if number == 1 else several}" if number else "")

    def _source_text(self, split: str) -> str:
        return f" ({self.places[split]})" if split in self.places else ""


def open_data(
    settings: DataSettings,
    *,
    seed: int,
    data_dir: Path | None = None,
    base: Path | None = None,
    download: bool = False,
    input: Shape | None = None,
    output: Shape | None = None,
    classes: Sequence[str] = (),
    shape: Shape | None = None,
    scale: Scale | None = None,
    watch: Watch | None = None,
    inputs: Inputs = ONE,
    learned: Collection[str] | None = None,
) -> Data:
    """Read the data, check and divide it, and apply the transforms; DataError says what is wrong, where, and the cure.

    `data_dir` replaces the spec's `root`, which is relative to `base`, the folder of the spec's file. If the shapes
    `input` and `output` of a network are given, images and labels are checked against them: before reading, a spec can
    only be checked against what its source declares. `classes`, `shape` and `scale` are those of a trained network's
    training images: labels are renumbered by class name, and images are resized and scaled to match. `inputs` are those
    of a network with several, whose arrays are not transformed. `watch` is called while decoded images are written to
    files. `learned` are the SHA-256 of a trained network's files, where these may be others: of a folder without splits
    that the network did not learn from, nothing is held out.
    """
    source: Source = settings.source.of_any_classes() if classes else settings.source
    source = source if scale is None else source.of_scale(scale)
    _check_class_names(settings)
    store = Store(None if settings.cache is False else cache_folder() / "pixels", settings.cache is True, watch)
    root = data_dir or root_of(settings, base)
    root = root and _direct(root)
    read = source.read_inputs(inputs, root) if inputs else source.read(root, download, store)
    if read.undivided is not None and learned is not None and not set(learned) & set(read.checksums.values()):
        both = ("train", "test")
        places_of_both = dict.fromkeys(both, f"all of {read.places['train']}")
        read = replace(read, splits=dict.fromkeys(both, read.undivided), places=places_of_both)
    data = by_name(read, classes)
    data = data if shape is None or inputs else _fitted(data, shape, store)
    _check(settings, data, input, output)
    data = data if settings.validation is None else _divided(data, settings.validation, seed)
    train = _limited(data.splits["train"], settings.train.limit, seed, "train")
    validation = data.splits.get("validation")
    found_shape = train.pixels.shape[1:]
    pipeline = Pipeline.of(settings, input or settings.transformed(found_shape), inputs).found(
        found_shape, data.class_names, data.scale, data.inputs
    )
    prepared = _prepared(store, pipeline, train)
    return Data(
        prepared,
        _prepared(store, pipeline, validation) if validation else None,
        _prepared(store, pipeline, _limited(data.splits["test"], settings.test.limit, seed, "test")),
        pipeline,
        data.checksums,
        data.class_names,
        tuple(dict.fromkeys(data.notes)),
        data.places,
        measured_by_name(data.targets, np.asarray(prepared.labels))
        if data.kind == "several"
        else measured(data.kind, data.class_names, prepared.labels),
    )


def _check_class_names(settings: DataSettings) -> None:
    doubled = [name for name, count in Counter(settings.class_names).items() if count > 1]
    if doubled:
        raise DataError(f"data.source.classes: {doubled[0]} is named twice", "name each class once")


def _divided(data: Found, validation: Validation, seed: int) -> Found:
    """Return the data with a part of the training images set apart for validation, in place of those of the source."""
    train = data.splits["train"]
    places, notes = dict(data.places), list(data.notes)
    if "validation" in data.splits:
        notes.append(f"{places.pop('validation')} is not read: data.validation sets training images apart")
    if validation.folds is not None:
        chosen = _fold(validation, train.labels, seed)
    else:
        chosen = stratified(train.labels, _validation_count(validation, len(train.labels)), seed, leave=1)
    if not len(chosen):
        raise DataError(
            "data.validation: expected a class with two training images or more, got none",
            "leave data.validation out, or add images",
        )
    rest = np.setdiff1d(np.arange(len(train.labels)), chosen)
    if data.kind == "class":
        for label in np.setdiff1d(train.labels[chosen], train.labels[rest]).tolist():
            notes.append(f"all images of {data.class_names[label]} are set apart to validate: it is not learned")
    splits = {**data.splits, "train": train.chosen(rest), "validation": train.chosen(chosen)}
    return replace(data, splits=splits, places=places, notes=tuple(notes))


def root_of(settings: DataSettings, base: Path | None) -> Path | None:
    """Return the folder with the source's files: the spec's `root`, relative to the folder of the spec's file."""
    if settings.root is None:
        return base if settings.source.own_files else None
    return (base or Path()) / user_path(settings.root)


def _direct(path: Path) -> Path:
    """Return a path without steps up and down again, such as runs/net/../../pets, where that leads to the same place.

    Files are found in the store by their paths, so that a run must come to them by those of its training.
    """
    short = Path(os.path.normpath(path))
    try:
        return short if os.path.samefile(short, path) else path
    except OSError:
        return path


def _fitted(found: Found, shape: Shape, store: Store) -> Found:
    """Return `found` with images resized to the height and width of `shape`, and a note for each split that changed."""
    splits, notes = dict(found.splits), list(found.notes)
    for split, images in found.splits.items():
        height, width = images.pixels.shape[2:]
        if (height, width) != shape[1:]:
            size = (shape[1], shape[2])
            fit, labels = Resize(size=size), images.labels
            where = found.places.get(split, split)
            if labels.ndim == 3:
                labels = store.through(labels, fit.move_maps, [fit], f"{where}: resizing")
            splits[split] = Images(store.through(images.pixels, fit.apply, [fit], f"{where}: resizing"), labels)
            notes.append(f"{where}: images of {height}x{width}: resized to {shape[1]}x{shape[2]}, as in training")
    return replace(found, splits=splits, notes=tuple(notes))


def _check(settings: DataSettings, found: Found, input: Shape | None, output: Shape | None) -> None:
    shape = found.splits["train"].pixels.shape[1:]
    try:
        behind = settings.transformed(shape)
    except ShapeError as error:
        raise DataError(f"data.preprocess: {error}", error.help) from error
    if input is not None and behind != input:
        cure = f"write input: [{', '.join(map(str, behind))}], or resize the images under data.preprocess"
        if len(behind) == len(input) == 3 and behind[1:] == input[1:]:
            cure = f"write input: [{', '.join(map(str, behind))}], or give images of {input[0]} channels"
        if (behind[-1], *behind[:-1]) == input:
            cure = "channels come last in these arrays: write data.source.layout: nhwc"
        raise DataError(f"data: expected images of {text(input)}, which is the spec's input, got {text(behind)}", cure)
    for split, images in found.splits.items():
        other = images.pixels.shape[1:]
        if other != shape:
            where, whose = (found.places.get(name, f"{name} images") for name in (split, "train"))
            raise DataError(
                f"{where}: expected images of {text(shape)}, as in {whose}, got {text(other)}", "bring both to one size"
            )
    classes = len(found.class_names)
    end = {"first": "last", "last": "first"}.get(getattr(settings.source, "label", ""))
    other_end = f", or write data.source.label: {end} where the labels are in the {end} column" if end else ""
    binary = output == (1,) and classes == 2  # two classes on one output, which the loss checks itself
    if found.kind == "class" and output is not None and len(output) == 1 and classes > output[0] and not binary:
        raise DataError(
            f"data: expected at most {'1 class' if output[0] == 1 else f'{output[0]} classes'}, one for each output of "
            f"the network, got {classes}",
            f"use units: {classes} in the last layer{other_end}",
        )


def _fold(validation: Validation, labels: Pixels, seed: int) -> Array:
    folds, fold = validation.folds or 1, validation.fold
    if not (1 < folds <= len(labels) and fold <= folds):
        raise DataError(
            f"data.validation: expected a fold of 2 to {len(labels)} folds, got fold {fold} of {folds}",
            "write validation: {folds: 5, fold: 1}",
        )
    return fold_of(labels, folds, fold, seed)


def _validation_count(validation: Validation, available: int) -> int:
    if validation.limit and validation.fraction is not None:
        raise DataError("data.validation: expected fraction or limit, got both", "remove one of the two")
    count = validation.limit or round((validation.fraction or 0.0) * available)
    if not 0 < count < available:
        raise DataError(
            f"data.validation: expected 1 to {available - 1} of the {available} training images, got {count}",
            "set data.validation.fraction to a number such as 0.1",
        )
    return count


def _limited(images: Images, limit: int | None, seed: int, split: str) -> Images:
    if limit is None or limit == len(images.labels):
        return images
    if limit > len(images.labels):
        raise DataError(
            f"data.{split}.limit: expected at most {len(images.labels)}, which is all there are, got {limit}",
            "lower the limit or leave it out",
        )
    return images.chosen(stratified(images.labels, limit, seed))


def _prepared(store: Store, pipeline: Pipeline, images: Images) -> Dataset:
    labels = images.labels
    pixels = store.through(images.pixels, pipeline.prepared, pipeline.preprocess, "data.preprocess")
    if labels.ndim == 3:
        labels = store.through(labels, pipeline.prepared_maps, pipeline.preprocess, "data.preprocess")
    return Dataset(pixels, labels)
