"""Pooling over maps of (h, c, w, n): elementwise passes for each position inside a window, or each of its axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from cnnspec.kernels.elementwise import copy, maximum_of, merge_contiguous
from cnnspec.kernels.step import Array, Buffer, Step, join_steps
from cnnspec.kernels.taps import axis_taps, taps, windows_overlap
from cnnspec.shapes import Windows


def is_halving(windows: Windows) -> bool:
    """Whether windows are 2x2, side by side, and without padding: `halving_maximum` computes what `maximum` does.

    A part of the rows may lack padding that the whole map has, and so use the other kernel: both write the same marks.
    `row` (oh, c, w, n) holds each column's winner in its window, `column` (oh, c, ow, n) each window's winning column.
    """
    return windows.kernel == windows.stride == (2, 2) and not any(windows.padding)


def maximum_scratch(windows: Windows, channels: int, n: int, *, train: bool) -> Mapping[str, Buffer]:
    """The scratch of `maximum` and its gradient: `high` holds the maxima of columns, by the windows' rows."""
    (oh, ow), w = windows.output, windows.width
    high, small = (oh, channels, w, n), (oh, channels, ow, n)
    position = np.uint8 if max(windows.kernel) <= 256 else np.uint16
    buffers = {"high": Buffer(high)}
    if train or n > 1:
        buffers |= {"side": Buffer(small)}
    if train:
        buffers |= {"row": Buffer(high, "kept", position), "column": Buffer(small, "kept", position)}
        buffers |= {"high_place": Buffer(high, "forward", position), "high_better": Buffer(high, "forward", bool)}
        buffers |= {name: Buffer(small, "forward", position) for name in ("side_row", "leader", "place")}
        buffers |= {name: Buffer(small, "forward", bool) for name in ("better", "tie")}
        buffers |= {"high_gradient": Buffer(high, "input"), "high_part": Buffer(high, "input")}
        buffers |= {"high_won": Buffer(high, "input", bool)}
        buffers |= {"part": Buffer(small, "input"), "won": Buffer(small, "input", bool)}
    return buffers


def maximum(windows: Windows, x: Array, y: Array, work: Mapping[str, Array]) -> list[Step]:
    """y = the largest of each window: first down the columns, whole rows of x at a time, then along the rows.

    In training `row` marks the winner of each column of a row of windows, and `column` that of each window. A
    candidate wins where it is greater than all before it, so the final winner is the last to win, and a maximum of the
    candidates' numbers finds it, cheaper than a masked copy. Of equal columns the one whose winner lies higher wins,
    then the first: so the first of equals in row-major order.
    """
    high = work["high"]
    if "row" not in work:
        return [_unmarked_maximum(windows, x, y, work)]
    row, place, better = (work[name] for name in ("row", "high_place", "high_better"))
    down = [
        (row.dtype.type(i), x[read], high[write], row[write], place[write], better[write])
        for i, read, write in axis_taps(windows, 0)
    ]

    def rows() -> None:
        high.fill(-np.inf)
        row.fill(0)
        for i, candidate, best, winner, number, greater in down:
            np.greater(candidate, best, out=greater)
            np.multiply(greater.view(np.uint8), i, out=number)
            np.maximum(winner, number, out=winner)
            np.maximum(best, candidate, out=best)

    side, side_row, column, leader = (work[name] for name in ("side", "side_row", "column", "leader"))
    number, greater, tie = (work[name] for name in ("place", "better", "tie"))
    across = [
        (
            column.dtype.type(j),
            _copy_column(windows, high, side, read, write),
            copy(row[:, :, read], side_row[:, :, write]),
        )
        for j, read, write in axis_taps(windows, 1)
    ]

    def columns() -> None:
        y.fill(-np.inf)
        column.fill(0)
        leader.fill(0)
        for j, values, positions in across:
            values()
            positions()
            np.equal(side, y, out=tie)
            np.less(side_row, leader, out=greater)
            np.logical_and(tie, greater, out=tie)
            np.greater(side, y, out=greater)
            np.logical_or(greater, tie, out=greater)
            np.subtract(side_row, leader, out=side_row)  # modulo 256, as is the sum
            np.multiply(side_row, greater.view(np.uint8), out=side_row)
            np.add(leader, side_row, out=leader)
            np.multiply(greater.view(np.uint8), j, out=number)
            np.maximum(column, number, out=column)
            np.maximum(y, side, out=y)

    return [rows, columns]


def _unmarked_maximum(windows: Windows, x: Array, y: Array, work: Mapping[str, Array]) -> Step:
    """The step that computes maxima without marks; columns of a single image are compared without a copy."""
    high = work["high"]
    down = [(x[read], high[write]) for _, read, write in axis_taps(windows, 0)]
    line: list[Step] = [partial(high.fill, -np.inf)]
    line += [maximum_of(best, candidate, best) for candidate, best in down]
    line.append(partial(y.fill, -np.inf))
    for _, read, write in axis_taps(windows, 1):
        if "side" in work:
            side = work["side"]
            line += [_copy_column(windows, high, side, read, write), maximum_of(y, side, y)]
        else:
            best = y[:, :, write]
            line.append(maximum_of(best, high[:, :, read], best))
    return join_steps(line)


def _copy_column(windows: Windows, high: Array, side: Array, read: slice, write: slice) -> Step:
    """Copy one column of every window to `side`, minus infinity where it lies in the padding."""
    covered = copy(high[:, :, read], side[:, :, write])
    covers_result = write == slice(0, windows.output[1])
    return covered if covers_result else join_steps([partial(side.fill, -np.inf), covered])


def maximum_gradient(windows: Windows, dy: Array, dx: Array, work: Mapping[str, Array]) -> list[Step]:
    """dx gets dy at the winner of each window and 0 elsewhere: first to its column, then to its row."""
    high, masked, won, column = (work[name] for name in ("high_gradient", "part", "won", "column"))
    line: list[Step] = [partial(high.fill, 0)]
    for j, read, write, fresh in _first_visits(windows, 1):
        part, target = masked[:, :, write], high[:, :, read]
        line += [partial(np.equal, column, j, won), partial(np.multiply, dy, won, masked)]
        line.append(copy(part, target) if fresh else partial(np.add, target, part, target))
    line.append(partial(dx.fill, 0))
    for i, read, write, fresh in _first_visits(windows, 0):
        winner, equal, gradient, part = (
            work[name][write] for name in ("row", "high_won", "high_gradient", "high_part")
        )
        target = dx[read]
        line += [partial(np.equal, winner, i, equal), partial(np.multiply, gradient, equal, target if fresh else part)]
        line += [] if fresh else [partial(np.add, target, part, target)]
    return [join_steps(line)]


def _first_visits(windows: Windows, axis: int) -> Iterator[tuple[int, slice, slice, bool]]:
    """Yield the taps of an axis, and for each whether no earlier tap touches its places of the map."""
    seen = set[int]()
    for tap, read, write in axis_taps(windows, axis):
        phase = read.start % windows.stride[axis]
        yield tap, read, write, phase not in seen
        seen.add(phase)


def halving_scratch(windows: Windows, channels: int, n: int, *, train: bool) -> Mapping[str, Buffer]:
    """The scratch of the two halving kernels; columns of a single image are compared without a copy."""
    (oh, ow), w = windows.output, windows.width
    high, small = (oh, channels, w, n), (oh, channels, ow, n)
    buffers = {"high": Buffer(high)}
    if train or n > 1:
        buffers |= {"sides": Buffer((2, *small))}
    if train:
        buffers |= {"row": Buffer(high, "kept", np.uint8), "column": Buffer(small, "kept", np.uint8)}
        buffers |= {"side_below": Buffer((2, *small), "forward", bool), "tie": Buffer(small, "forward", bool)}
        buffers |= {"high_gradient": Buffer(high, "input"), "side_gradients": Buffer((2, *small), "input")}
    return buffers


def halving_maximum(windows: Windows, x: Array, y: Array, work: Mapping[str, Array]) -> list[Step]:
    """Maxima of 2x2 windows as a tournament, first down the columns: whole rows of x against whole rows.

    In training `row` is 1 where the lower row won, `column` where the right column did. Of two equal columns the one
    with the upper winner wins, then the left one: so the first of equals in row-major order.
    """
    upper, lower = (x[row : 2 * windows.output[0] : 2] for row in (0, 1))
    high = work["high"]
    if "sides" not in work and windows.width == 2 * windows.output[1]:  # even and odd elements of one line
        line = high.reshape(-1)
        return [join_steps([maximum_of(upper, lower, high), maximum_of(line[::2], line[1::2], y.reshape(-1))])]
    columns = _columns(windows, high)
    left, right = sides = work.get("sides", columns)
    apart = [copy(part, side) for part, side in zip(columns, sides, strict=True) if part is not side]
    compete = join_steps([maximum_of(upper, lower, high), *apart, maximum_of(left, right, y)])
    if "row" not in work:
        return [compete]
    below, right_won = (work[name].view(bool) for name in ("row", "column"))
    side_below, tie = work["side_below"], work["tie"]
    below_pairs = _column_copies(windows, below, side_below)

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
    pairs = _column_copies(windows, high, work["side_gradients"])
    below, won = (work[name].view(bool) for name in ("row", "column"))
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


def _column_copies(windows: Windows, high: Array, sides: Array) -> list[tuple[Array, Array]]:
    """Pair views of the left and the right columns of all windows with the arrays that they are copied to."""
    return [merge_contiguous(part, side) for part, side in zip(_columns(windows, high), sides, strict=True)]


def _columns(windows: Windows, high: Array) -> list[Array]:
    """The left and the right columns of all windows, views."""
    return [high[:, :, column : 2 * windows.output[1] : 2] for column in (0, 1)]


def inverse_counts(windows: Windows, dtype: np.dtype[np.generic], padding: tuple[int, int, int, int]) -> Array:
    """1 / (number of elements of each window in the map, widened by `padding`), as (oh, 1, ow, 1)."""
    down = _counts(windows, 0, windows.height, padding[:2])
    across = _counts(windows, 1, windows.width, padding[2:])
    return (1 / np.outer(down, across)).astype(dtype)[:, None, :, None]


def _counts(windows: Windows, axis: int, length: int, padding: tuple[int, ...]) -> Array:
    first = np.arange(windows.output[axis]) * windows.stride[axis] - windows.padding[2 * axis]
    return np.minimum(first + windows.kernel[axis], length + padding[1]) - np.maximum(first, -padding[0])


def spread(windows: Windows, values: Array, dx: Array) -> list[Step]:
    """dx = the sum over the windows that hold each element of `values`, one for each window."""
    passes = [(values[tap.write], dx[tap.read]) for tap in taps(windows)]
    adding = windows_overlap(windows)

    def step() -> None:
        dx.fill(0)
        for value, target in passes:
            if adding:
                np.add(target, value, out=target)
            else:
                np.copyto(target, value)

    return [step]


def window_sums(windows: Windows, values: Array, y: Array) -> list[Step]:
    """y = the sum of `values` over each window."""
    passes = [(values[tap.read], y[tap.write]) for tap in taps(windows)]

    def step() -> None:
        y.fill(0)
        for value, target in passes:
            np.add(target, value, out=target)

    return [step]
