"""Pooling over maps of (h, c, w, n): one elementwise pass for each position inside a window."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from cnnspec.kernels.cases import copy, runs
from cnnspec.kernels.step import Array, Buffer, Step, in_turn
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


def halving_scratch(windows: Windows, channels: int, n: int, *, train: bool) -> Mapping[str, Buffer]:
    """What the two halving kernels work on; the columns of one image are compared where they lie."""
    (oh, ow), w = windows.output, windows.width
    high, small = (oh, channels, w, n), (oh, channels, ow, n)
    found = {"high": Buffer(high)}
    if train or n > 1:
        found |= {"sides": Buffer((2, *small))}
    if train:
        found |= {"below": Buffer(high, "kept", bool), "right": Buffer(small, "kept", bool)}
        found |= {"side_below": Buffer((2, *small), "forward", bool), "tie": Buffer(small, "forward", bool)}
        found |= {"high_gradient": Buffer(high, "backward"), "side_gradients": Buffer((2, *small), "backward")}
    return found


def halving_maximum(windows: Windows, x: Array, y: Array, work: Mapping[str, Array]) -> list[Step]:
    """Maxima of 2x2 windows as a tournament, first down the columns: whole rows of x against whole rows.

    In training `below` says where the lower row won, `right` where the right column did. Of two equal columns that
    with the upper winner wins, and else the left one: so the first of equals in row-major order.
    """
    upper, lower = (x[row : 2 * windows.output[0] : 2] for row in (0, 1))
    high = work["high"]
    columns = _columns(windows, high)
    left, right = sides = work.get("sides", columns)
    apart = [copy(part, side) for part, side in zip(columns, sides, strict=True) if part is not side]
    compete = in_turn([partial(np.maximum, upper, lower, out=high), *apart, partial(np.maximum, left, right, out=y)])
    if "below" not in work:
        return [compete]
    below, right_won, side_below, tie = (work[name] for name in ("below", "right", "side_below", "tie"))
    below_pairs = _pairs(windows, below, side_below)

    def mark() -> None:
        np.greater(lower, upper, out=below)
        for part, side in below_pairs:
            np.copyto(side, part)
        np.equal(left, right, out=tie)
        np.greater(side_below[0], side_below[1], out=right_won)
        np.logical_and(tie, right_won, out=tie)
        np.greater(right, left, out=right_won)
        np.logical_or(right_won, tie, out=right_won)

    return [compete, mark]


def halving_gradient(windows: Windows, dy: Array, dx: Array, work: Mapping[str, Array]) -> list[Step]:
    """The gradient goes down the tournament: one product and one difference at each match."""
    (oh, ow), high, (left, right) = windows.output, work["high_gradient"], work["side_gradients"]
    upper, lower = (dx[row : 2 * oh : 2] for row in (0, 1))
    pairs = _pairs(windows, high, work["side_gradients"])
    below, won = work["below"], work["right"]
    uncovered = [high[:, :, 2 * ow :], dx[2 * oh :]]

    def step() -> None:
        np.multiply(dy, won, out=right)
        np.subtract(dy, right, out=left)
        for part, side in pairs:
            np.copyto(part, side)
        for rest in uncovered:
            rest.fill(0)
        np.multiply(high, below, out=lower)
        np.subtract(high, lower, out=upper)

    return [step]


def _pairs(windows: Windows, high: Array, sides: Array) -> list[tuple[Array, Array]]:
    """The left and the right columns of all windows among all columns, each with where they lie by themselves."""
    return [runs(part, side) for part, side in zip(_columns(windows, high), sides, strict=True)]


def _columns(windows: Windows, high: Array) -> list[Array]:
    """The left and the right columns of all windows, views."""
    return [high[:, :, column : 2 * windows.output[1] : 2] for column in (0, 1)]


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
