"""Expanded columns: what makes the windows of a convolution matrices without a copy.

For a tile of groups and output rows, the kw column taps of the rows that it reads are copied side by side, padding
included: E (groups, rows, kw, c, ow*n). Row r of the output then reads kh*kw*c consecutive, uniformly spaced rows of E:
a matrix that is a view and overlaps its neighbours. A tile stays in the cache until the products have read it: it is
some of the groups with all rows, and only where one group is too much for that, some of its rows.
A 1x1 kernel at stride 1 reads the map itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.elementwise import clear, copy
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.kernels.taps import along, inside
from cnnspec.kernels.views import grouped_map, grouped_rows, outside
from cnnspec.shapes import Shape, Windows

TILE = 1 << 18  # elements of the expanded columns of a tile, 1 MiB, which stay in the cache until they are read
LOWEST = 4  # output rows of a tile: neighbours read kh - stride rows twice


@dataclass(frozen=True)
class Tile:
    """Groups and output rows, the steps that expand what they read, and their windows (groups, rows, K, ow*n)."""

    groups: slice
    rows: slice
    fill: list[Step]
    windows: Array

    def maps(self, each: int) -> slice:
        """The channels, or the filters, of its groups, so many each."""
        return slice(self.groups.start * each, self.groups.stop * each)


def reads_map(windows: Windows) -> bool:
    """Whether the map is its own expansion: a 1x1 kernel at stride 1."""
    return windows.kernel == (1, 1) and windows.stride == (1, 1) and not any(windows.padding)


def _down(windows: Windows) -> int:
    """Rows of E from one output row's window to the next one's: with a kernel of one row, E holds no rows between."""
    return windows.stride[0] if windows.kernel[0] > 1 else 1


def groups_of_tile(problem: Problem, n: int) -> int:
    """As many groups as a tile can hold with all their rows."""
    most = TILE // (_height(problem.windows, problem.windows.output[0]) * _row(problem, n))
    return max(count for count in range(1, problem.groups + 1) if problem.groups % count == 0 and count <= max(1, most))


def _height(windows: Windows, rows: int) -> int:
    """Rows of E that so many output rows read."""
    return (rows - 1) * _down(windows) + windows.extent[0]


def _row(problem: Problem, n: int) -> int:
    """Elements of a row of E of one group."""
    return problem.windows.kernel[1] * problem.channels_of_group * problem.windows.output[1] * n


def rows_of_tile(problem: Problem, n: int) -> int:
    """Output rows of a tile; the tiles of a map are about equally high."""
    windows, oh = problem.windows, problem.windows.output[0]
    row = groups_of_tile(problem, n) * _row(problem, n)
    most = max(LOWEST, (TILE // row - windows.extent[0]) // _down(windows) + 1)
    return -(-oh // -(-oh // most))


def expanded(problem: Problem, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
    """The buffer of a tile's expanded columns, (groups, rows, kw, c, ow, n); none where the map itself is read."""
    windows = problem.windows
    if reads_map(windows):
        return {}
    groups, rows = groups_of_tile(problem, n), _height(windows, rows_of_tile(problem, n))
    shape = (groups, rows, windows.kernel[1], problem.channels_of_group, windows.output[1], n)
    return {"columns": Buffer(shape, lifetime)}


def moved(problem: Problem) -> int:
    """Elements that the expansion copies for one image."""
    windows = problem.windows
    if reads_map(windows):
        return 0
    (oh, ow), (kh, kw) = windows.output, windows.kernel
    return (oh if kh == 1 else windows.padded[0]) * kw * problem.channels * ow


def tiles(problem: Problem, x: Array, buffers: Mapping[str, Array], most: int) -> Iterator[Tile]:
    """Yield the tiles that hold all windows of a map, with at most `most` output rows each."""
    oh, ow = problem.windows.output
    if "columns" not in buffers:
        for first in range(0, oh, most):
            rows = slice(first, min(first + most, oh))
            yield Tile(slice(0, problem.groups), rows, [], grouped_rows(x[rows], problem.groups))
        return
    columns, source, n = buffers["columns"], grouped_map(x, problem.groups), x.shape[-1]
    item, down, height = columns.itemsize, _down(problem.windows), min(most, rows_of_tile(problem, n))
    fill = clear(edges(problem.windows, columns))
    for group, first in product(range(0, problem.groups, len(columns)), range(0, oh, height)):
        groups, rows = slice(group, group + len(columns)), slice(first, min(first + height, oh))
        count = rows.stop - rows.start
        view = as_strided(
            columns,
            (len(columns), count, problem.depth, ow * n),
            (columns.strides[0], down * columns.strides[1], ow * n * item, item),
            writeable=False,
        )
        read, start = columns[:, : _height(problem.windows, count)], first * problem.windows.stride[0]
        cleared = group > 0 and height == oh  # the rows above and below are those of the group before
        fill += _expand(problem.windows, source[groups], read, start - problem.windows.padding[0], cleared=cleared)
        yield Tile(groups, rows, fill, view)
        fill = []


def edges(windows: Windows, columns: Array) -> list[Array]:
    """The places of expanded columns (groups, rows, kw, c, ow, n) that stand for padding left and right, views."""
    taps = range(windows.kernel[1])
    return [edge for kx in taps for edge in outside(columns[:, :, kx], slice(*inside(windows, 1, kx)))]


def _expand(windows: Windows, source: Array, columns: Array, start: int, *, cleared: bool) -> list[Step]:
    """Copy every column tap of the rows from `start` on; those above and below the map become zero."""
    step = windows.stride[0] // _down(windows)
    low = max(0, -(start // step))
    high = max(low, min(columns.shape[1], (windows.height - 1 - start) // step + 1))
    rows, inner = slice(start + low * step, start + high * step, step), columns[:, low:high]
    steps = [] if cleared else clear([columns[:, :low], columns[:, high:]])
    if high == low:
        return steps
    if not any(windows.padding[2:]):
        return [*steps, copy(_all_taps(windows, source[:, rows], inner.shape), inner)]
    moves = along(windows, 1)
    return [*steps, *(copy(source[:, rows, :, read], inner[:, :, kx, :, made]) for kx, read, made in moves)]


def _all_taps(windows: Windows, source: Array, shape: Shape) -> Array:
    """Rows (groups, rows, c, w, n) as every column tap reads them, (groups, rows, kw, c, ow, n), a view."""
    group, row, channel, column, image = source.strides
    strides = (group, row, windows.dilation[1] * column, channel, windows.stride[1] * column, image)
    return as_strided(source, shape, strides, writeable=False)
