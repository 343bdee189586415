"""Divides a set of labelled images by a seed, with every class in proportion."""

from __future__ import annotations

import numpy as np

from cnnspec.data.rows import Pixels
from cnnspec.data.source import Images
from cnnspec.kernels.step import Array

SPLIT_SEED = 0  # seed of the split into train and test, which must not depend on a spec's seed


def stratified(labels: Pixels, count: int, seed: int, *, leave: int = 0) -> Array:
    """Return the sorted indices of `count` images, in which classes have the proportions of the whole set.

    Each class gets the integer part of its share; the rest goes to the largest remainders. At least `leave` images of
    every class are not chosen, so there may be fewer than `count`. Images whose labels are numbers or maps form a
    single class.
    """
    labels = _classes(labels)
    random = np.random.default_rng([seed, len(labels)])
    present, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (count / len(labels))
    takes = np.floor(shares).astype(np.int64)
    missing = count - int(takes.sum())
    for position in np.argsort(takes - shares, kind="stable"):
        if missing and takes[position] + leave < sizes[position]:
            takes[position] += 1
            missing -= 1
    takes = np.minimum(takes, np.maximum(sizes - leave, 0))
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:take]
        for label, take in zip(present.tolist(), takes.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def fold_of(labels: Pixels, folds: int, fold: int, seed: int) -> Array:
    """Return the sorted indices of one fold, counted from 1; each class is shuffled and dealt to all folds in turn."""
    classes = _classes(labels)
    random = np.random.default_rng([seed, 3, len(labels)])
    order = np.concatenate([random.permutation(np.flatnonzero(classes == label)) for label in np.unique(classes)])
    return np.sort(order[fold - 1 :: folds])


def _classes(labels: Pixels) -> Array:
    """Return the class of each image: the same one for all if labels are numbers or maps."""
    return np.asarray(labels) if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def held_out(images: Images, count: int) -> dict[str, Images]:
    """Divide a set into a test split of `count` images and a training split of the rest, always in the same way.

    The only image of a class stays with the training images.
    """
    test = stratified(images.labels, count, SPLIT_SEED, leave=1)
    train = np.setdiff1d(np.arange(len(images.labels)), test)
    return {name: images.chosen(chosen) for name, chosen in (("train", train), ("test", test))}
