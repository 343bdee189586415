"""Synthetic drawings: discs and boxes on noise, with their classes, positions and sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspec.kernels.step import Array

FEWEST, MOST = 0.12, 0.28  # least and greatest half width of a shape, as a share of the smaller side
VALUES = ("x", "y", "size")


class Drawn(NamedTuple):
    """Pixels (n, c, h, w), the class of each pixel (n, h, w), and the VALUES of the last shape in each image (n, 3)."""

    pixels: Array
    maps: Array
    values: Array


def drawings(shape: tuple[int, int, int], count: int, classes: int, noise: float, random: np.random.Generator) -> Drawn:
    """Draw `count` images (c, h, w), each with one shape, or with one of every class but 0 if `classes` is not 0.

    Odd classes are discs, even ones boxes; a higher class is brighter. Later shapes cover earlier ones.
    """
    c, h, w = shape
    rows, columns = np.arange(h)[:, None], np.arange(w)
    maps = np.zeros((count, h, w), np.uint8)
    values = np.zeros((count, 3))
    for drawn in range(1, max(classes, 2)):
        half = random.uniform(FEWEST, MOST, count) * min(h, w)
        top, left = (random.uniform(half, side - 1 - half) for side in (h, w))
        down = (rows - top[:, None, None]) / half[:, None, None]
        across = (columns - left[:, None, None]) / half[:, None, None]
        disc = drawn % 2 == 1
        inside = down**2 + across**2 <= 1 if disc else np.maximum(np.abs(down), np.abs(across)) <= 1
        maps[inside] = drawn
        values = np.stack((left / (w - 1), top / (h - 1), 2 * half / min(h, w)), axis=1)
    bright = maps / max(maps.max(), 1)
    levels = (1 - noise) * bright[:, None] + noise * random.random((count, c, h, w))
    return Drawn(np.rint(255 * levels).astype(np.uint8), maps, values.astype(np.float32))
