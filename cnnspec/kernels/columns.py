"""Expanded columns: what makes the windows of a convolution matrices without a copy.

The kw column taps of a map are copied side by side once, E (groups, rows, kw, c, ow*n), padding included. Row r of the
output then reads kh*kw*c consecutive, uniformly spaced rows of E: a matrix that is a view and overlaps its neighbours.
A 1x1 kernel at stride 1 reads the map itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.cases import Case, grouped_map, grouped_rows, inside, read_by
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.shapes import Windows


def reads_map(windows: Windows) -> bool:
    """Whether the map is its own expansion: a 1x1 kernel at stride 1."""
    return windows.kernel == (1, 1) and windows.stride == (1, 1) and not any(windows.padding)


def expanded(case: Case, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
    """The array of expanded columns, (groups, rows, kw, c, ow, n) of n images, where one is needed."""
    windows = case.windows
    if reads_map(windows):
        return {}
    shape = (case.groups, windows.padded[0], windows.kernel[1], case.channels_of_group, windows.output[1], n)
    return {"columns": Buffer(shape, lifetime)}


def moved(case: Case) -> int:
    """Elements that the expansion copies for one image."""
    return sum(prod(buffer.shape) for buffer in expanded(case, 1, "forward").values()) * case.runs


def windows_of(case: Case, x: Array, buffers: Mapping[str, Array]) -> tuple[Array, list[Step]]:
    """The windows (groups, oh, K, ow*n) of a map, and the steps that expand its columns."""
    if "columns" not in buffers:
        return grouped_rows(x, case.groups), []
    columns, (oh, ow), n = buffers["columns"], case.windows.output, x.shape[-1]
    item = columns.itemsize
    view = as_strided(
        columns,
        (case.groups, oh, case.depth, ow * n),
        (columns.strides[0], case.windows.stride[0] * columns.strides[1], ow * n * item, item),
        writeable=False,
    )
    return view, [expand(case.windows, grouped_map(x, case.groups), columns)]


def expand(windows: Windows, source: Array, columns: Array) -> Step:
    """Copy every column tap beside its neighbour; what lies in the padding becomes zero, at every step anew."""
    top, height = windows.padding[0], windows.height
    zeros = [columns[:, :top], columns[:, top + height :]]
    moves: list[tuple[Array, Array]] = []
    for kx in range(windows.kernel[1]):
        first, last = inside(windows, 1, kx)
        target = columns[:, top : top + height, kx]
        zeros += [target[..., :first, :], target[..., last:, :]]
        if last > first:
            moves.append((target[..., first:last, :], source[..., read_by(windows, 1, kx, first, last), :]))
    zeros = [zero for zero in zeros if zero.size]

    def step() -> None:
        for zero in zeros:
            zero.fill(0)
        for target, origin in moves:
            np.copyto(target, origin)

    return step
