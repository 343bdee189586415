"""An optimizer followed over a number of updates, bound once, as training binds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.optim import Optimizer, Update


def followed(
    optimizer: Optimizer,
    start: Array,
    rates: Sequence[float],
    gradient_at: Callable[[Array, int], Array],
    weight_decay: float,
) -> Array:
    """The weights after one update at each of the rates; the gradient is given weights and a number from 1 on."""
    weights, gradient, update = start.copy(), np.empty_like(start), Update(np.array(0.0), np.array(0))
    slots = {name: np.zeros_like(start) for name in optimizer.slots()}
    scratch = tuple(np.full_like(start, np.nan) for _ in range(optimizer.scratch))
    step = optimizer.bind(weights, gradient, slots, scratch, update, weight_decay)
    for number, rate in enumerate(rates, start=1):
        update.number[...], update.rate[...] = number, rate
        gradient[...] = gradient_at(weights, number)
        step()
    return weights
