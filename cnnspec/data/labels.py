"""Labels as arrays of numbers: the kind of target that they are, checks, and the type that training needs."""

from __future__ import annotations

import numpy as np

from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.target import DENSE, KINDS, VOID, Kind

IGNORED = "write data.source.ignore: 255 where such pixels are of no class"
SLACK = 1e-3  # error that a sum of probabilities may have


def kind_of(labels: Array, declared: Kind | None) -> Kind:
    """Return the declared kind of target; without one, `values` if a label is not a whole number, else `class`."""
    if declared is not None:
        return declared
    fractions = labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels != np.rint(labels)).any()
    return "values" if fractions else "class"


def numbers(labels: Array, kind: Kind, subject: str, ignore: int | None = None) -> Array:
    """Check labels (n, k) or (n,) of numbers, or class maps (n, h, w); DataError names the first that is wrong.

    Pixels of maps with the number `ignore` belong to no class.
    """
    cure = f"the target is {KINDS[kind]}; data.source.target can be another"
    if labels.dtype.kind not in "biuf":
        raise DataError(f"{subject}: expected numbers, got {labels.dtype} {labels.shape}", cure)
    if kind == "mask":
        return _maps(labels, subject, cure, ignore)
    if labels.ndim == 1:
        labels = labels[:, None]
    if kind not in DENSE or labels.ndim != 2 or labels.shape[1] == 0:
        raise DataError(f"{subject}: expected labels (n, k), got {labels.dtype} {labels.shape}", cure)
    targets = labels.astype(np.float64)
    expected = {
        "values": ("finite numbers", np.isfinite(targets)),
        "classes": ("0 or 1 for each class", (targets == 0) | (targets == 1)),
        "shares": ("probabilities of at least 0", np.isfinite(targets) & (targets >= 0)),
    }
    name, right = expected[kind]
    if not right.all():
        row, column = np.argwhere(~right)[0]
        raise DataError(f"{subject}: expected {name}, got {targets[row, column]:g} in row {row}, column {column}", cure)
    if kind == "shares":
        sums = targets.sum(axis=1)
        wrong = np.flatnonzero(np.abs(sums - 1) > SLACK)
        if len(wrong):
            raise DataError(
                f"{subject}: expected probabilities with a sum of 1, got {sums[wrong[0]]:g} in row {wrong[0]}", cure
            )
        targets /= sums[:, None]
    return targets.astype(np.float32)


def _maps(labels: Array, subject: str, cure: str, ignore: int | None) -> Array:
    if labels.ndim == 4 and 1 in (labels.shape[1], labels.shape[3]):
        labels = labels[:, 0] if labels.shape[1] == 1 else labels[..., 0]
    if labels.ndim != 3:
        raise DataError(f"{subject}: expected maps (n, h, w), got {labels.dtype} {labels.shape}", cure)
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise DataError(f"{subject}: expected the number of a class for each pixel, got fractions", cure)
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise DataError(f"{subject}: expected classes 0 to 255, got {labels.min()} to {labels.max()}", cure)
    void = labels == ignore
    classes = np.where(void, VOID, labels).astype(np.uint8) if void.any() else labels.astype(np.uint8)
    if not void.all() and (classes[~void] == VOID).any():
        raise DataError(f"{subject}: expected classes 0 to 254, got 255", IGNORED)
    return classes


def names_of(labels: list[Array], kind: Kind, count: int | None) -> tuple[str, ...]:
    """Return generated names for classes or values that have none: their numbers, or `value`."""
    if kind == "values":
        width = labels[0].shape[1]
        return ("value",) if width == 1 else tuple(map(str, range(width)))
    if kind == "mask":
        most = 1 + max(int(part.max(initial=0, where=part != VOID)) for part in labels)
    else:
        most = labels[0].shape[1]
    return tuple(map(str, range(max(most, count or 0))))
