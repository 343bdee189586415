"""Numbers that look random, are the same everywhere and depend on a name alone: for images, labels and weights.

They are made with integers (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), so that no
version of NumPy gives others, and one array stays as it is when others of a network change.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from zlib import crc32

import numpy as np

from cnnspec.kernels.step import Array


def noise(name: str, shape: Sequence[int]) -> Array:
    """Numbers of [-1, 1) in float64 that follow from a name."""
    z = np.arange(1, prod(shape) + 1, dtype=np.uint64) + (np.uint64(crc32(name.encode())) << np.uint64(32))
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1).reshape(tuple(shape))


def weights(name: str, shape: Sequence[int]) -> Array:
    """What a parameter starts from: as wide as its fan-in allows, and what scales a channel is near 1."""
    values = noise(name, shape)
    if len(shape) > 1:
        return np.asarray(values * np.sqrt(3 / prod(shape[1:])))
    return np.asarray(0.75 + 0.25 * values if name.endswith("weight") else 0.25 * values)


def images(step: int, batch: int, shape: Sequence[int]) -> Array:
    """The images of a step, n first, of [0, 1), exact in single precision."""
    return np.asarray(np.floor((0.5 + 0.5 * noise(f"images {step}", (batch, *shape))) * 2**20) / 2**20)


def labels(step: int, batch: int, classes: int) -> Array:
    """The classes of a step's images."""
    return ((0.5 + 0.5 * noise(f"labels {step}", (batch,))) * classes).astype(np.int64)


def rate(step: int, learning_rate: float) -> float:
    """The learning rate of a step: half of the optimizer's own to one and a half of it."""
    return float(learning_rate * (1 + 0.5 * noise("rate", (step + 1,))[-1]))
