"""Compares an export with the network that it was made from, on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnnspec.export.formats import Given
from cnnspec.kernels.step import Array
from cnnspec.train.network import Network

TOLERANCE = 1e-4  # as a share of the largest output, or 1: sums in another order differ by less


@dataclass(frozen=True, slots=True)
class Agreement:
    """The difference between two outputs for the same images, and their accuracies if the classes are known."""

    images: int
    difference: float  # the largest difference between two numbers
    scale: float  # the largest output, or 1
    equal_classes: int | None  # images for which both name the same class
    accuracies: tuple[float, float] | None

    @property
    def agrees(self) -> bool:
        """Whether the difference is no larger than rounding explains."""
        return self.difference <= TOLERANCE * self.scale

    def text(self) -> str:
        """Return the figures as one line."""
        parts = [f"largest difference {self.difference:.2g}, outputs up to {self.scale:.3g}"]
        if self.equal_classes is not None:
            parts.append(f"the same class for {self.equal_classes:,} of {self.images:,}")
        if self.accuracies is not None:
            parts.append("accuracy {:.2%} there, {:.2%} here".format(*self.accuracies))
        return f"{self.images:,} image{'s' * (self.images != 1)}: {'; '.join(parts)}"


def agreements(network: Network, expected: Given, found: Given, labels: Array | None) -> dict[str, Agreement]:
    """Compare the network's outputs for some images with those of the exported files, by name; "" names a single one.

    `labels` are those of the images, if they are known.
    """
    if not isinstance(expected, Mapping):
        kind, loss = network.learned.kind, network.loss
        threshold = 0.5 if loss is None else loss.threshold
        assert not isinstance(found, Mapping)
        return {"": agreement(expected, found, threshold if kind == "class" else None, labels)}
    assert isinstance(found, Mapping)
    assert network.heads is not None
    compared = {}
    for name, output in expected.items():
        part = network.heads.parts[name]
        own = None if labels is None else network.heads.labels(name, labels)
        threshold = part.loss.threshold if part.target.kind == "class" else None
        compared[name] = agreement(output, found[name], threshold, own)
    return compared


def agreement(expected: Array, found: Array, threshold: float | None, labels: Array | None) -> Agreement:
    """Compare an output for some images with that of the exported files.

    If they are scores of classes, `threshold` is the one of a single score, and `labels` are the classes, if known.
    """
    if found.shape != expected.shape:
        return Agreement(len(expected), float("inf"), 1.0, None, None)
    difference = float(np.abs(found - expected).max()) if expected.size else 0.0
    difference = difference if np.isfinite(difference) else float("inf")
    scale = max(1.0, float(np.abs(expected).max())) if expected.size else 1.0
    if threshold is None or expected.ndim != 2:
        return Agreement(len(expected), difference, scale, None, None)
    expected_classes, there = _classes(expected, threshold), _classes(found, threshold)
    equal = int((expected_classes == there).sum())
    known = labels is not None and labels.ndim == 1
    scores = (float((there == labels).mean()), float((expected_classes == labels).mean())) if known else None
    return Agreement(len(expected), difference, scale, equal, scores)


def _classes(outputs: Array, threshold: float) -> Array:
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(1))
    return np.asarray(outputs[:, 0] > threshold, np.int64)
