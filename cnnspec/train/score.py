"""The score of a network on a set of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.target import FIGURES, VOID, Kind

VALUES = frozenset[Kind]({"values", "input", "none", "several"})  # targets without right and wrong answers


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Mean loss and the figures for the target's kind; None for figures that do not apply.

    Accuracy is the share of right answers: of images, of pixels of a class, or of labels that do or do not apply. The
    confusion matrix counts by true class (rows) and predicted class (columns). Precision, recall, F1 and IoU are means
    over the classes that are there or predicted (macro, as in scikit-learn); one that is only there has a precision of
    0, and one that is only predicted a recall of 0.
    Errors of values are means over images and values, in the units of the data.
    """

    loss: float | None
    images: int
    accuracy: float | None = None
    kind: Kind = "class"
    confusion: Array | None = None
    answers: Array | None = None  # (3, classes): how often each class is right, predicted, true
    top_k: float | None = None  # the portion of images whose class is among the k likeliest
    mean_average_precision: float | None = None  # the mean over labels of the area under precision by recall
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None  # 1 - squared error / variance, the mean over the values
    parts: Mapping[str, Score] = field(default_factory=dict)  # the score of each of several losses, without its weight

    @property
    def precision(self) -> float | None:
        """Mean over the classes of right / predicted."""
        return None if self.answers is None else self._mean(self.answers[0], self.answers[1])

    @property
    def recall(self) -> float | None:
        """Mean over the classes of right / there."""
        return None if self.answers is None else self._mean(self.answers[0], self.answers[2])

    @property
    def f1(self) -> float | None:
        """Mean over the classes of 2 right / (predicted + there)."""
        return None if self.answers is None else self._mean(2 * self.answers[0], self.answers[1] + self.answers[2])

    @property
    def mean_iou(self) -> float | None:
        """Mean over the classes that are predicted or there of right / (predicted or there)."""
        if self.kind != "mask" or self.answers is None:
            return None
        right, predicted, there = self.answers
        return self._mean(right, predicted + there - right)

    def _mean(self, parts: Array, wholes: Array) -> float:
        """Return the mean portion over the classes that are there or predicted; a portion of nothing is 0."""
        assert self.answers is not None
        portions = np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
        seen = self.answers[1:].any(axis=0)
        return float(portions[seen].mean()) if seen.any() else 0.0

    @property
    def best(self) -> float | None:
        """The figure that compares checkpoints before the loss does: the higher, the better."""
        return self.mean_iou if self.kind == "mask" else self.accuracy

    def figures(self) -> dict[str, Any]:
        """Return all figures for the target's kind by name; those of each part with its name and a dot in front."""
        figures = {name: getattr(self, name) for name in FIGURES[self.kind]}
        parts = self.parts.items()
        return figures | {f"{part}.{name}": value for part, score in parts for name, value in score.figures().items()}


def right_answers(predictions: Array, labels: Array) -> int:
    """Count the right answers: one for each image, for each pixel, or for each label that does or does not apply."""
    if labels.ndim > predictions.ndim:  # probabilities, of which the largest is the right class
        labels = labels.argmax(axis=1)
    return int(np.count_nonzero(predictions == labels))


def asked_answers(labels: Array, shape: Shape) -> int:
    """Count the answers to compare, if an image's answers have this shape; pixels without a class do not count."""
    count = len(labels) * prod(shape)
    return count - int(np.count_nonzero(labels == VOID)) if len(shape) == 2 else count


def right_images(answers: int, images: int, asked: int) -> float:
    """Count the images answered right: an image with several answers counts by the portion of them that is right."""
    return answers * images / max(asked, 1)


class Tally:
    """Adds up the results of plans on parts of the images; the order of the parts does not matter.

    `outputs` is the number of the network's outputs, `k` that of top_k.
    """

    def __init__(self, kind: Kind, outputs: int, k: int) -> None:
        self.kind, self.k = kind, k
        self.images, self.near = 0, 0
        self.losses: dict[int, float] = {}  # by part, to be summed in the order of parts
        self.right: dict[int, float] = {}
        classes = max(outputs, 2)  # one output serves two classes
        decides = kind in ("class", "shares", "mask")
        self.confusion = np.zeros((classes, classes), np.int64) if decides else None
        self.answers = np.zeros((3, outputs), np.int64)
        self.outputs: dict[int, Array] = {}
        self.labels: dict[int, Array] = {}

    @property
    def reads_output(self) -> bool:
        """Whether `add` needs the network's outputs beside its answers."""
        return self.kind not in ("mask", "input", "none", "several")

    def add(self, part: int, losses: Array, labels: Array, predictions: Array | None, output: Array | None) -> None:
        """Add a part: its losses, labels and answers, and the network's outputs (n, ...) in the labels' units."""
        self.losses[part] = float(losses.sum(dtype=np.float64))
        self.images += len(losses)
        if self.kind in ("values", "classes"):
            assert output is not None
            self.outputs[part] = output.astype(np.float64)
            self.labels[part] = labels.astype(np.float64)
        if predictions is None or self.kind in VALUES:
            return
        if self.kind != "mask":
            answer_count = asked_answers(labels, predictions.shape[1:])
            self.right[part] = right_images(right_answers(predictions, labels), len(predictions), answer_count)
        if self.kind == "classes":
            there = labels > 0.5
            masks = (predictions & there, predictions, there)
            self.answers += np.stack([array.sum(axis=0, dtype=np.int64) for array in masks])
            return
        assert self.confusion is not None
        truth = labels.argmax(axis=1) if self.kind == "shares" else labels.ravel()
        answers, size = predictions.ravel(), len(self.confusion)
        if self.kind == "mask":
            counted = truth != VOID
            truth, answers = truth[counted], answers[counted]
        pairs = np.bincount(truth.astype(np.int64) * size + answers, minlength=size * size)
        self.confusion += pairs.reshape(size, size)
        if output is not None:
            self._add_near(truth, output)

    def _add_near(self, truth: Array, output: Array) -> None:
        if self.k < output.shape[1]:
            likeliest = np.argpartition(-output, self.k, axis=1)[:, : self.k]
            self.near += int(np.count_nonzero(likeliest == truth[:, None]))
        else:
            self.near += len(truth)

    def merge(self, other: Tally) -> None:
        """Add the parts of another tally."""
        self.images += other.images
        self.near += other.near
        self.answers += other.answers
        if self.confusion is not None and other.confusion is not None:
            self.confusion += other.confusion
        self.losses |= other.losses
        self.right |= other.right
        self.outputs |= other.outputs
        self.labels |= other.labels

    def score(self, *, has_loss: bool) -> Score:
        """Return the figures over all added parts."""
        count = max(self.images, 1)
        figures: dict[str, Any] = {}
        if self.kind == "values":
            figures = _errors(_joined(self.outputs), _joined(self.labels))
        elif self.kind == "classes":
            outputs, labels = _joined(self.outputs), _joined(self.labels) > 0.5
            figures = {"answers": self.answers, "mean_average_precision": _mean_average_precision(outputs, labels)}
        elif self.confusion is not None:
            matrix = self.confusion
            sums = np.stack([np.diagonal(matrix), matrix.sum(axis=0), matrix.sum(axis=1)])
            figures = {"confusion": matrix, "answers": sums}
            figures["top_k"] = self.near / count if self.kind != "mask" else None
        accuracy = None if self.kind in VALUES else _total(self.right) / count
        if self.kind == "mask" and self.confusion is not None:
            accuracy = float(np.diagonal(self.confusion).sum() / max(self.confusion.sum(), 1))
        return Score(
            loss=_total(self.losses) / count if has_loss else None,
            images=self.images,
            accuracy=accuracy,
            kind=self.kind,
            **figures,
        )


def merged(found: Sequence[tuple[Tally, dict[str, Tally]]]) -> tuple[Tally, dict[str, Tally]]:
    """Merge the tallies of all ranks, of the network and of each of its losses, into those of the first rank."""
    first, parts = found[0]
    for other, other_parts in found[1:]:
        first.merge(other)
        for name, part in parts.items():
            part.merge(other_parts[name])
    return first, parts


def _total(parts: Mapping[int, float]) -> float:
    """The sum in the order of the parts; the rounding of Python's `sum` depends on its version."""
    total = 0.0
    for _, value in sorted(parts.items()):
        total += value
    return total


def _joined(parts: Mapping[int, Array]) -> Array:
    return np.concatenate([array for _, array in sorted(parts.items())])


def _errors(outputs: Array, values: Array) -> dict[str, float]:
    error = outputs - values
    spread = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    squared = (error**2).sum(axis=0)
    # As in scikit-learn: for values that are all equal, r2 is 1 or 0.
    r2 = np.where(spread > 0, 1 - squared / np.where(spread > 0, spread, 1), np.where(squared > 0, 0.0, 1.0))
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean())), "r2": float(r2.mean())}


def _mean_average_precision(outputs: Array, labels: Array) -> float:
    """The mean, over labels that occur, of the mean precision at each image with the label, by falling output.

    Images with the same output count as one step, as in scikit-learn.
    """
    precisions = []
    for output, there in zip(outputs.T, labels.T, strict=True):
        if not there.any():
            continue
        order = np.argsort(-output, kind="stable")
        last = np.flatnonzero(np.append(np.diff(output[order]) != 0, True))  # the last of each run of equal outputs
        right = np.cumsum(there[order])[last]
        steps = np.diff(right, prepend=0)
        precisions.append(float((right / (last + 1) * steps).sum() / right[-1]))
    return float(np.mean(precisions)) if precisions else 0.0
