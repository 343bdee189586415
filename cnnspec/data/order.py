"""The order of images in an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.step import Array


@dataclass(frozen=True, slots=True)
class Order:
    """Reshuffles every epoch; a pure function of the seed and the epoch, so that a resumed run sees the same."""

    count: int
    batch_size: int
    seed: int

    def epoch(self, number: int) -> Iterator[Array]:
        """Indices of one batch after another; the last one has what is left."""
        order = np.random.default_rng([self.seed, 1, number]).permutation(self.count)
        for start in range(0, self.count, self.batch_size):
            yield order[start : start + self.batch_size]
