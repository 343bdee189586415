"""Compares an export with the network that it was made from, on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        return f"{self.images:,} images: {'; '.join(parts)}"


def agreement(network: Network, expected: Array, found: Array, labels: Array | None) -> Agreement:
    """Compare the network's outputs for some images with those of the exported files.

    `labels` are the classes of the images, if they are known.
    """
    if found.shape != expected.shape:
        return Agreement(len(expected), float("inf"), 1.0, None, None)
    difference = float(np.abs(found - expected).max()) if expected.size else 0.0
    difference = difference if np.isfinite(difference) else float("inf")
    scale = max(1.0, float(np.abs(expected).max())) if expected.size else 1.0
    if network.learned.kind != "class" or expected.ndim != 2:
        return Agreement(len(expected), difference, scale, None, None)
    expected_classes, there = _classes(network, expected), _classes(network, found)
    equal = int((expected_classes == there).sum())
    scores = None if labels is None else (float((there == labels).mean()), float((expected_classes == labels).mean()))
    return Agreement(len(expected), difference, scale, equal, scores)


def _classes(network: Network, outputs: Array) -> Array:
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(1))
    threshold = 0.5 if network.loss is None else network.loss.threshold
    return np.asarray(outputs[:, 0] > threshold, np.int64)
