"""Sums over shards in one fixed binary tree, so that the result does not depend on who adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspec.kernels.step import Array, Step


def tree_sum(arrays: Sequence[Array]) -> Step:
    """Add arrays into the first one: neighbours, then neighbours' neighbours, ((0 + 1) + (2 + 3)) + ..."""
    pairs: list[tuple[Array, Array]] = []
    distance = 1
    while distance < len(arrays):
        pairs += [(arrays[i], arrays[i + distance]) for i in range(0, len(arrays) - distance, 2 * distance)]
        distance *= 2

    def step() -> None:
        for target, other in pairs:
            np.add(target, other, out=target)

    return step
