"""Pooling over maps of (h, c, w, n): one elementwise pass for each position inside a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.kernels.taps import overlap, taps
from cnnspec.shapes import Windows


def is_halving(windows: Windows) -> bool:
    """Whether windows are 2x2, side by side, and without padding."""
    return windows.kernel == windows.stride == (2, 2) and not any(windows.padding)


def maximum(windows: Windows, x: Array, y: Array, winner: Array | None, work: Mapping[str, Array]) -> list[Step]:
    """y = the largest of each window; `winner` gets its row-major position, the first of equals.

    A candidate wins where it is greater than all before it, so the winner is the last position to have won, and a
    maximum over positions finds it: cheaper than a masked copy. Needs `work` "better" (bool) and "place" like winner.
    """
    passes = []
    for tap in taps(windows):
        best = y[tap.write]
        marks = () if winner is None else (winner[tap.write], work["place"][tap.write], work["better"][tap.write])
        passes.append((tap.position, x[tap.read], best, marks))

    def step() -> None:
        y.fill(-np.inf)
        if winner is not None:
            winner.fill(0)
        for position, candidate, best, marks in passes:
            if marks:
                leader, place, better = marks
                np.greater(candidate, best, out=better)
                np.multiply(better.view(np.uint8), leader.dtype.type(position), out=place)
                np.maximum(leader, place, out=leader)
            np.maximum(best, candidate, out=best)

    return [step]


def maximum_gradient(windows: Windows, dy: Array, dx: Array, winner: Array, work: Mapping[str, Array]) -> list[Step]:
    """dx gets dy at the winner of each window and 0 elsewhere. Needs `work` "won" (bool) and "share" like dy."""
    won, share = work["won"], work["share"]
    passes = [(tap.position, share[tap.write], dx[tap.read]) for tap in taps(windows)]

    def step() -> None:
        dx.fill(0)
        for position, part, target in passes:
            np.equal(winner, position, out=won)
            np.multiply(dy, won, out=share)
            np.add(target, part, out=target)

    return [step]


def _quarters(windows: Windows, array: Array) -> Sequence[Array]:
    return [array[tap.read] for tap in taps(windows)]


def halving_maximum(windows: Windows, x: Array, y: Array, marks: Sequence[Array], work: Array) -> list[Step]:
    """Maxima of 2x2 windows as a tournament; `marks` say where the right of the upper and of the lower row, and
    where the lower row won. Without marks the maximum alone."""
    upper_left, upper_right, lower_left, lower_right = _quarters(windows, x)

    def step() -> None:
        if marks:
            right_above, right_below, below = marks
            np.greater(upper_right, upper_left, out=right_above)
            np.greater(lower_right, lower_left, out=right_below)
        np.maximum(upper_left, upper_right, out=y)
        np.maximum(lower_left, lower_right, out=work)
        if marks:
            np.greater(work, y, out=below)
        np.maximum(y, work, out=y)

    return [step]


def halving_gradient(
    windows: Windows, dy: Array, dx: Array, marks: Sequence[Array], half: Array, right: Array
) -> list[Step]:
    """The gradient goes down the tournament: one product and one difference at each match.

    Products go to the contiguous `right` first: multiplying by booleans straight into a strided array is slower.
    """
    upper_left, upper_right, lower_left, lower_right = _quarters(windows, dx)
    right_above, right_below, below = marks
    (oh, ow), rest = windows.output, []
    if 2 * oh < windows.height:
        rest.append(dx[2 * oh :])
    if 2 * ow < windows.width:
        rest.append(dx[:, :, 2 * ow :])

    def step() -> None:
        np.multiply(dy, below, out=half)
        np.multiply(half, right_below, out=right)
        np.copyto(lower_right, right)
        np.subtract(half, right, out=lower_left)
        np.subtract(dy, half, out=half)
        np.multiply(half, right_above, out=right)
        np.copyto(upper_right, right)
        np.subtract(half, right, out=upper_left)
        for uncovered in rest:
            uncovered.fill(0)

    return [step]


def inverse_counts(windows: Windows, dtype: np.dtype[np.generic], padding: tuple[int, int, int, int]) -> Array:
    """1 / (elements of each window that lie in the map with this much padding) as (oh, 1, ow, 1)."""
    down = _counts(windows, 0, windows.height, padding[:2])
    across = _counts(windows, 1, windows.width, padding[2:])
    return (1 / np.outer(down, across)).astype(dtype)[:, None, :, None]


def _counts(windows: Windows, axis: int, length: int, padding: tuple[int, ...]) -> Array:
    first = np.arange(windows.output[axis]) * windows.stride[axis] - windows.padding[2 * axis]
    return np.minimum(first + windows.kernel[axis], length + padding[1]) - np.maximum(first, -padding[0])


def spread(windows: Windows, shares: Array, dx: Array) -> list[Step]:
    """dx = the sum of `shares` over the windows that hold each element."""
    passes = [(shares[tap.write], dx[tap.read]) for tap in taps(windows)]
    adding = overlap(windows)

    def step() -> None:
        dx.fill(0)
        for share, target in passes:
            if adding:
                np.add(target, share, out=target)
            else:
                np.copyto(target, share)

    return [step]


def gather(windows: Windows, values: Array, y: Array) -> list[Step]:
    """y = the sum of `values` over each window."""
    passes = [(values[tap.read], y[tap.write]) for tap in taps(windows)]

    def step() -> None:
        y.fill(0)
        for value, target in passes:
            np.add(target, value, out=target)

    return [step]
