"""How well a network does on a set of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array

FIGURES = ("loss", "accuracy", "precision", "recall", "f1", "top_k")  # what `require` can ask for


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Mean loss and share of right answers; None where the network has no such thing.

    The confusion matrix counts images by true class (rows) and predicted class (columns). Precision, recall and F1 are
    means over the classes (macro); a class that never comes up counts 0, as in scikit-learn.
    """

    loss: float | None
    accuracy: float | None
    images: int
    confusion: Array | None = None
    top_k: float | None = None  # share of images whose class is among the k likeliest

    @property
    def precision(self) -> float | None:
        """Mean over the classes of right / predicted."""
        return None if self.confusion is None else _mean(self._right(), self.confusion.sum(axis=0))

    @property
    def recall(self) -> float | None:
        """Mean over the classes of right / there."""
        return None if self.confusion is None else _mean(self._right(), self.confusion.sum(axis=1))

    @property
    def f1(self) -> float | None:
        """Mean over the classes of 2 right / (predicted + there)."""
        if self.confusion is None:
            return None
        return _mean(2 * self._right(), self.confusion.sum(axis=0) + self.confusion.sum(axis=1))

    def figures(self) -> dict[str, Any]:
        """Return all figures by name, None for those that do not apply."""
        return {name: getattr(self, name) for name in FIGURES}

    def _right(self) -> Array:
        assert self.confusion is not None
        return np.diagonal(self.confusion)


def _mean(part: Array, whole: Array) -> float:
    return float(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0).mean())


class Tally:
    """Adds up what plans find on one part of the images after another."""

    def __init__(self, classes: int | None, k: int) -> None:
        self.k = k
        self.loss, self.images, self.near = 0.0, 0, 0
        self.confusion = None if classes is None else np.zeros((classes, classes), np.int64)

    def add(self, losses: Array, labels: Array, predictions: Array | None, output: Array | None) -> None:
        """Add one part: its losses, true and predicted classes, and the network's outputs (n, classes)."""
        self.loss += float(losses.sum(dtype=np.float64))
        self.images += len(labels)
        if self.confusion is None or predictions is None or output is None:
            return
        np.add.at(self.confusion, (labels, predictions), 1)
        if self.k < len(self.confusion):
            likeliest = np.argpartition(-output, self.k, axis=1)[:, : self.k]
            self.near += int(np.count_nonzero(likeliest == labels[:, None]))
        else:
            self.near += len(labels)

    def score(self, *, has_loss: bool) -> Score:
        """Return the figures over all parts that were added."""
        count = max(self.images, 1)
        classifies = self.confusion is not None
        return Score(
            loss=self.loss / count if has_loss else None,
            accuracy=float(np.trace(self.confusion)) / count if self.confusion is not None else None,
            images=self.images,
            confusion=self.confusion,
            top_k=self.near / count if classifies else None,
        )
