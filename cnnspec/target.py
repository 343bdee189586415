"""The targets that a loss compares with the outputs of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np

from cnnspec.shapes import Shape

Kind = Literal["class", "shares", "classes", "values", "mask", "input", "none", "several"]

KINDS: Mapping[Kind, str] = {
    "class": "one class an image",
    "shares": "a probability for each class",
    "classes": "any number of classes an image",
    "values": "numbers",
    "mask": "a class for each pixel",
    "input": "the input itself",
    "none": "nothing",
    "several": "several targets, each with a name",
}
_ANSWERS = ("loss", "accuracy", "precision", "recall", "f1")
FIGURES: Mapping[Kind, tuple[str, ...]] = {  # figures of each kind of target, which `require` can name
    "class": (*_ANSWERS, "top_k"),
    "shares": (*_ANSWERS, "top_k"),
    "classes": (*_ANSWERS, "mean_average_precision"),
    "mask": (*_ANSWERS, "mean_iou"),
    "values": ("loss", "mae", "rmse", "r2"),
    "input": ("loss",),
    "none": ("loss",),
    "several": ("loss",),  # each single target has figures of its own
}
COUNTED = 16  # maps whose pixels are counted at once
VOID = 255  # marks pixels of no class in a mask, which losses and figures leave out
DENSE = frozenset[Kind]({"shares", "classes", "values"})  # kinds of target with a number for each output


@dataclass(frozen=True, slots=True)
class Target:
    """The kind of the labels that a loss compares with outputs, their names, and statistics of the training labels.

    Labels of n images are whole numbers (n,) for `class`, (n, h, w) for `mask`, and numbers (n, k) for `shares`,
    `classes` and `values`; `input` and `none` need none. Values are learned as (value - mean) / deviation. Labels of
    `several` targets are joined along the second axis, (n, k) in all, a class as one number.
    """

    kind: Kind = "class"
    names: tuple[str, ...] = ()  # names of classes or values; empty if they are only found in files
    counts: tuple[int, ...] = ()  # training images (for `mask`: pixels) of each class
    mean: tuple[float, ...] = ()  # mean and deviation of each value over the training images
    deviation: tuple[float, ...] = ()
    parts: Mapping[str, Target] = field(default_factory=dict)  # the targets of `several`, by name
    images: int = 0  # number of training images, if each may have any number of classes

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the target that `record` returned."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        parts = {name: cls.of(part) for name, part in record.get("parts", {}).items()}
        return cls(**{**values, "parts": parts})

    def record(self) -> dict[str, Any]:
        """Return all fields of the target, for JSON."""
        return asdict(self)

    @property
    def width(self) -> int:
        """The number of values in an image's labels, which is known when the names are."""
        return 1 if self.kind == "class" else len(self.names)

    def label_shape(self, output: Shape) -> Shape:
        """Return the shape of one image's labels for a network with that output."""
        if self.kind == "mask":
            return output[1:]
        return output if self.kind in DENSE else ()

    @property
    def dtype(self) -> str:
        """The type of labels in memory."""
        if self.kind == "mask":
            return "uint8"
        return "float32" if self.kind in DENSE or self.kind == "several" else "int64"

    def scaled(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return labels (n, ...) in the form that the loss compares with outputs."""
        return (labels - np.array(self.mean)) / np.array(self.deviation) if self.mean else labels

    def unscaled(self, output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return outputs (n, ...) in the units of the data."""
        if not self.mean:
            return output
        return np.asarray(output * np.array(self.deviation) + np.array(self.mean)).astype(output.dtype)


CLASS = Target()


def measured(kind: Kind, names: tuple[str, ...], labels: Any) -> Target:
    """Return the target with statistics of training labels: counts of classes, or mean and deviation of values."""
    if kind == "values":
        mean, deviation = labels.mean(axis=0, dtype=np.float64), labels.std(axis=0, dtype=np.float64)
        deviation = np.where(deviation > 0, deviation, 1.0)  # for a constant value
        return Target(kind, names, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))
    if kind == "class":
        counts = np.bincount(labels, minlength=len(names))
    elif kind == "mask":
        counts = np.zeros(len(names), np.int64)
        for start in range(0, len(labels), COUNTED):  # maps of a large set lie in a file
            maps = labels[start : start + COUNTED]
            class_counts = np.bincount(maps[maps != VOID], minlength=len(counts))
            counts = class_counts + np.pad(counts, (0, len(class_counts) - len(counts)))
    elif kind == "classes":
        counts = labels.sum(axis=0).astype(np.int64)
        return Target(kind, names, tuple(counts.tolist()), images=len(labels))
    else:
        counts = np.zeros(0, np.int64)
    return Target(kind, names, tuple(counts.tolist()))


def measured_by_name(targets: Mapping[str, Target], labels: np.ndarray[Any, Any]) -> Target:
    """Return the target with statistics of the labels (n, k) of several named targets, joined along the second axis."""
    parts: dict[str, Target] = {}
    mean: list[float] = []
    deviation: list[float] = []
    stop = 0
    for name, target in targets.items():
        start, stop = stop, stop + target.width
        part_labels = labels[:, start:stop]
        part_labels = part_labels[:, 0].astype(np.int64) if target.kind == "class" else part_labels
        part = parts[name] = measured(target.kind, target.names, part_labels)
        mean += part.mean or (0.0,) * target.width
        deviation += part.deviation or (1.0,) * target.width
    return Target("several", (), (), tuple(mean), tuple(deviation), parts)
