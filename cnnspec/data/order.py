"""The order of images in an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True)
class Order:
    """Reshuffles every epoch; a pure function of the seed and the epoch, so that a resumed run sees the same.

    With `classes` (n,), the class of each image, every class is drawn as often as any other, and its images alike.
    """

    count: int
    batch_size: int
    seed: int
    classes: Array | None = None

    def epoch(self, number: int) -> Iterator[Array]:
        """Indices of one batch after another; the last one has what is left."""
        random = np.random.default_rng([self.seed, 1, number])
        order = random.permutation(self.count) if self.classes is None else _balanced(self.classes, random)
        for start in range(0, self.count, self.batch_size):
            yield order[start : start + self.batch_size]


def _balanced(classes: Array, random: np.random.Generator) -> Array:
    """As many indices as there are images, in an order that mixes the classes.

    All images of a class come before one of them comes again; classes differ by one index at most.
    """
    present = random.permutation(np.unique(classes))
    drawn = []
    for position, label in enumerate(present):
        images = np.flatnonzero(classes == label)
        wanted = (len(classes) + len(present) - 1 - position) // len(present)
        rounds = -(-wanted // len(images))
        drawn.append(np.concatenate([random.permutation(images) for _ in range(rounds)])[:wanted])
    return np.asarray(random.permutation(np.concatenate(drawn)))
