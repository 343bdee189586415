"""An optimizer followed over a number of steps, as `Training` drives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.optim import FACTORS, PULL, Optimizer, Update


def followed(
    optimizer: Optimizer,
    start: Array,
    rates: Sequence[float],
    gradient_at: Callable[[Array, int], Array],
    weight_decay: float,
) -> Array:
    """The weights behind one step at each of the rates; the gradient is given weights and a number from 1 on."""
    weights, gradients, dtype = start.copy(), np.empty_like(start), start.dtype
    pulls = np.zeros(PULL), np.zeros(PULL)
    update = Update(np.array(0.0), np.array(rates[0]), np.array(0), *pulls, np.zeros(FACTORS, dtype))
    slots = {name: np.zeros_like(start) for name in optimizer.slots()}
    temporary = tuple(np.full_like(start, np.nan) for _ in range(optimizer.scratch))
    step = optimizer.bind(weights, gradients, slots, temporary, update, weight_decay)
    for number, rate in enumerate(rates, start=1):
        update.count[...], update.rate[...] = number, rate
        optimizer.begin(update, weight_decay)
        gradients[...] = gradient_at(weights, number) * (rate if optimizer.linear else 1)
        step()
        update.last_rate[...], update.pull[...] = rate, update.next_pull
    return weights
