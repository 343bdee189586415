"""The optimizer's side of a plan: gradients of all shards are summed and applied, one stretch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.optim import Optimizer
from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.weights import Weights

STRETCH = 1 << 16  # elements that one task updates: parameters, gradients and slots stay in the second-level cache


class Training:
    """What training adds to the weights: a flat gradient per shard, the optimizer's slots, the rate and the clock.

    It outlives the plans of different batch sizes, which share it.
    """

    def __init__(self, weights: Weights, optimizer: Optimizer, shards: int = 1) -> None:
        self.weights = weights
        self.optimizer = optimizer
        self.gradients: list[Array] = [np.zeros_like(weights.values) for _ in range(shards)]
        self.slots: dict[str, Array] = {name: np.zeros_like(weights.values) for name in optimizer.slots()}
        self.rate: Array = np.array(optimizer.learning_rate, np.float64)
        self.clock: Array = np.array(0, np.int64)  # steps begun

    def grow(self, shards: int) -> None:
        """Have a gradient for that many shards."""
        while len(self.gradients) < shards:
            self.gradients.append(np.zeros_like(self.weights.values))

    def tasks(self, shards: int) -> list[Step]:
        """Sum the gradients of that many shards and apply them: tasks that touch no element twice."""
        return [
            self._task(start, min(start + length, segment.stop), shards, segment.weight_decay)
            for segment in self.weights.segments
            for length in [_even(segment.stop - segment.start)]
            for start in range(segment.start, segment.stop, length)
        ]

    def _task(self, start: int, stop: int, shards: int, weight_decay: float) -> Step:
        parts: Sequence[Array] = [gradient[start:stop] for gradient in self.gradients[:shards]]
        add = tree_sum(parts)
        update = self.optimizer.bind(
            self.weights.values[start:stop],
            parts[0],
            {name: slot[start:stop] for name, slot in self.slots.items()},
            tuple(np.empty_like(parts[0]) for _ in range(self.optimizer.scratch)),
            self.rate,
            self.clock,
            weight_decay,
        )

        def step() -> None:
            add()
            update()

        return step


def _even(length: int) -> int:
    """Stretches of nearly the same length, so that two threads finish together."""
    return ceil(length / ceil(length / STRETCH)) if length else 1
