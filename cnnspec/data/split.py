"""Cutting a set of labelled images into parts by a seed, every class in its share."""

from __future__ import annotations

import numpy as np

from cnnspec.kernels.step import Array


def stratified(labels: Array, count: int, seed: int) -> Array:
    """Sorted indices of `count` images, the classes in the proportions of the whole.

    Each class gets the whole part of its share; what is missing goes to the largest remainders.
    """
    random = np.random.default_rng([seed, len(labels)])
    present, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (count / len(labels))
    takes = np.floor(shares).astype(np.int64)
    for position in np.argsort(takes - shares, kind="stable")[: count - takes.sum()]:
        takes[position] += 1
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:take]
        for label, take in zip(present.tolist(), takes.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))
