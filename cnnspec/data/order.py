"""The order of images in an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True)
class Order:
    """Shuffles the images of every epoch; depends only on the seed and the epoch, so a resumed run has the same order.

    If `classes` (n,) gives the class of each image, every class is drawn equally often, and so is each image in a
    class.
    """

    count: int
    batch_size: int
    seed: int
    classes: Array | None = None

    def epoch(self, number: int) -> Iterator[Array]:
        """Yield the image indices of one batch after another; the last batch may be smaller."""
        random = np.random.default_rng([self.seed, 1, number])
        order = random.permutation(self.count) if self.classes is None else _balanced(self.classes, random)
        for start in range(0, self.count, self.batch_size):
            yield order[start : start + self.batch_size]


def _balanced(classes: Array, random: np.random.Generator) -> Array:
    """Return as many indices as there are images, in random order, with each class drawn equally often.

    No image is repeated before all of its class were drawn; the counts of two classes differ by at most one.
    """
    present = random.permutation(np.unique(classes))
    drawn = []
    for position, label in enumerate(present):
        images = np.flatnonzero(classes == label)
        wanted = (len(classes) + len(present) - 1 - position) // len(present)
        rounds = -(-wanted // len(images))
        drawn.append(np.concatenate([random.permutation(images) for _ in range(rounds)])[:wanted])
    return np.asarray(random.permutation(np.concatenate(drawn)))
