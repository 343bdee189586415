"""The norm of each layer's gradient in the steps that are watched."""

from __future__ import annotations

from math import sqrt

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.plan.state.parameters import Weights
from cnnspec.workers import shared


class GradientNorms:
    """The norms of a step's gradients as the optimizer gets them: summed over shards, and clipped by norm.

    Each chunk of the flat gradient has cells of its own, so that workers write without waiting for one another: the
    step's number, and a sum of squares for each parameter in it. Without `watched` nothing is computed.
    """

    def __init__(self, weights: Weights, clock: Array) -> None:
        self.watched: Array = shared((), np.bool_)
        self._weights, self._clock = weights, clock
        self._cells: dict[tuple[int, int], Array] = {}
        self._layers: dict[tuple[int, int], list[str]] = {}

    def measure_step(self, gradient: Array, start: int, stop: int) -> Step:
        """The step that measures a chunk of the flat gradient, which an update overwrites."""
        slots = [slot for slot in self._weights.slots if slot.start < stop and start < slot.stop]
        parts = [gradient[max(start, slot.start) : min(stop, slot.stop)] for slot in slots]
        self._layers[start, stop] = [slot.node.name for slot in slots]
        cells = self._cells.setdefault((start, stop), shared((1 + len(slots),), np.float64))
        watched, clock = self.watched, self._clock

        def step() -> None:
            if watched:
                cells[1:] = [np.vdot(part, part) for part in parts]
                cells[0] = clock

        return step

    def found(self) -> dict[str, float]:
        """The norm of each layer's gradient in the last watched step; empty before the first one."""
        last = max((cells[0] for cells in self._cells.values()), default=0.0)
        squares: dict[str, float] = {}
        for key, cells in self._cells.items():
            if last and cells[0] == last:
                for layer, square in zip(self._layers[key], cells[1:].tolist(), strict=True):
                    squares[layer] = squares.get(layer, 0.0) + square
        return {layer: sqrt(square) for layer, square in squares.items()}
