"""Sums over everything but the channels, as products with a vector of ones: a third of the time of a reduction.

The constants that such kernels read are made once for all of them and cannot be written to.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from cnnspec.kernels.step import Array, Step


def rows_of(array: Array) -> Array:
    """A map (h, c, w, n) as (h, c, w*n), a vector (features, n) as (1, features, n): channels on the middle axis."""
    if array.ndim == 4:
        h, c, w, n = array.shape
        return array.reshape(h, c, w * n)
    return array[None]


@cache
def ones(length: int, dtype: str) -> Array:
    """A read-only vector of ones, shared by all callers."""
    vector = np.ones(length, dtype)
    vector.flags.writeable = False
    return vector


SMALL_MAP = 1 << 14  # elements: up to this size, a second map of its shape costs less than repeating a row of it


@cache
def zeros(length: int, dtype: str) -> Array:
    """A read-only vector of zeros, shared by all: a maximum with an array takes a third of one with a scalar."""
    vector = np.zeros(length, dtype)
    vector.flags.writeable = False
    return vector


def channel_sum(array: Array, out: Array, partial: Array) -> Step:
    """Write the sum of every channel, (c,); `partial` is scratch of shape (h, c), or (1, c) for vectors."""
    rows = rows_of(array)
    vector = ones(rows.shape[-1], str(array.dtype))

    def step() -> None:
        np.matmul(rows, vector, out=partial)
        np.add.reduce(partial, axis=0, out=out)

    return step


def image_sum(array: Array, out: Array, partial: Array) -> Step:
    """Write the sums over rows and columns of a map (h, k, m, n), of every image by itself, (k, n).

    `partial` is scratch of shape (h, k, n). A reduction over all but the last axis, which is short, takes ten times as
    long.
    """
    if array.shape[2] == 1:
        return lambda: np.add.reduce(array[:, :, 0], axis=0, out=out)
    vector = ones(array.shape[2], str(array.dtype))[None]

    def step() -> None:
        np.matmul(vector, array, out=partial[:, :, None])
        np.add.reduce(partial, axis=0, out=out)

    return step


CLOSE = 0.01  # part of the sum of squares: a smaller variance is too inexact as a difference


def channel_moments(array: Array, totals: Array, partial: Array, work: Array, centred: Array) -> Step:
    """Write the sum and the sum of squares of every channel to `totals`, (2, c) in float64.

    The array is read once: rows are summed in its own type, `partial` (2, h, c), and the rows' sums in float64. If the
    mean is ten deviations or more, sum(x^2) - sum(x)^2 / n loses its digits, so squares are then summed about the mean:
    sum(x^2) = sum((x - k)^2) + k (2 sum(x) - n k), exact in float64. `work` is scratch like totals, and `centred` is
    scratch for one row of the map, (c, w*n).
    """
    rows = rows_of(array)
    by_row = list(zip(rows, partial[1], strict=True))
    vector, count = ones(rows.shape[-1], str(array.dtype)), rows.shape[0] * rows.shape[-1]
    (total, squares), mean = totals, partial[0, 0]  # in the array's type; it is free after the rows are summed

    def step() -> None:
        np.matmul(rows, vector, out=partial[0])
        np.vecdot(rows, rows, out=partial[1])
        np.add.reduce(partial, axis=1, dtype=totals.dtype, out=totals)
        np.multiply(total, total, out=work[0])
        np.multiply(squares, count * (1 - CLOSE), out=work[1])
        np.greater(work[0], work[1], out=work[0])
        if work[0].any():
            about_mean()

    def about_mean() -> None:
        np.divide(total, count, out=mean, casting="same_kind")
        for row, of_row in by_row:
            np.subtract(row, mean[:, None], out=centred)
            np.vecdot(centred, centred, out=of_row)
        np.add.reduce(partial[1], axis=0, dtype=totals.dtype, out=squares)
        np.multiply(total, 2, out=work[0])
        np.multiply(mean, -count, out=work[1], dtype=work.dtype)
        np.add(work[0], work[1], out=work[0])
        np.multiply(work[0], mean, out=work[0])
        np.add(squares, work[0], out=squares)

    return step


def channel_products(array: Array, other: Array, totals: Array, partial: Array) -> Step:
    """Write the sum of `array` and of array * other for every channel to `totals`, (2, c); `partial` is (2, h, c)."""
    rows, others = rows_of(array), rows_of(other)
    vector = ones(rows.shape[-1], str(array.dtype))

    def step() -> None:
        np.matmul(rows, vector, out=partial[0])
        np.vecdot(rows, others, out=partial[1])
        np.add.reduce(partial, axis=1, dtype=totals.dtype, out=totals)

    return step
