"""Expanded columns: copies of a map of which all windows of a convolution are matrices, as views.

For a tile of groups and output rows, the kw column taps of the rows that it reads are copied side by side, padding
included: E (groups, rows, kw, c, ow*n). Row r of the output then reads kh*kw*c consecutive, uniformly spaced rows of E:
a matrix that is a view and overlaps its neighbours. A tile stays in the cache until the products have read it: it is
some of the groups with all rows or, if one group is too large for the cache, some rows of one group.
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
from cnnspec.kernels.taps import axis_taps, outputs_of_tap
from cnnspec.kernels.views import grouped_map, grouped_rows, unreached_columns
from cnnspec.shapes import Shape, Windows

TILE = 1 << 18  # elements of a tile's expanded columns: 1 MiB stays in the cache until it is read
FEWEST_ROWS = 4  # the fewest output rows of a tile: neighbouring tiles read kh - stride rows twice


@dataclass(frozen=True)
class Tile:
    """Groups, output rows, the steps that expand the rows they read, and their windows (groups, rows, K, ow*n)."""

    groups: slice
    rows: slice
    fill: list[Step]
    windows: Array

    def maps(self, each: int) -> slice:
        """The channels, or the filters, of the tile's groups, of which each has `each`."""
        return slice(self.groups.start * each, self.groups.stop * each)


def reads_map(windows: Windows) -> bool:
    """Whether the map is its own expansion: a 1x1 kernel at stride 1."""
    return windows.kernel == (1, 1) and windows.stride == (1, 1) and not any(windows.padding)


def _row_distance(windows: Windows) -> int:
    """How many rows of E two neighbouring windows are apart; a kernel of one row has no rows between its windows."""
    return windows.stride[0] if windows.kernel[0] > 1 else 1


def groups_of_tile(problem: Problem, n: int) -> int:
    """How many groups a tile holds with all their rows."""
    fitting = TILE // (_rows_read(problem.windows, problem.windows.output[0]) * _row_elements(problem, n))
    return max(
        count for count in range(1, problem.groups + 1) if problem.groups % count == 0 and count <= max(1, fitting)
    )


def _rows_read(windows: Windows, rows: int) -> int:
    """How many rows of E a number of output rows reads."""
    return (rows - 1) * _row_distance(windows) + windows.extent[0]


def _row_elements(problem: Problem, n: int) -> int:
    """How many elements one row of E has for one group."""
    return problem.windows.kernel[1] * problem.channels_of_group * problem.windows.output[1] * n


def rows_of_tile(problem: Problem, n: int) -> int:
    """How many output rows a tile has; all tiles of a map are about equally high."""
    windows, oh = problem.windows, problem.windows.output[0]
    row = groups_of_tile(problem, n) * _row_elements(problem, n)
    most_rows = max(FEWEST_ROWS, (TILE // row - windows.extent[0]) // _row_distance(windows) + 1)
    return -(-oh // -(-oh // most_rows))


def column_buffers(problem: Problem, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
    """The buffer of a tile's expanded columns, (groups, rows, kw, c, ow, n); none if the map itself is read."""
    windows = problem.windows
    if reads_map(windows):
        return {}
    groups, rows = groups_of_tile(problem, n), _rows_read(windows, rows_of_tile(problem, n))
    shape = (groups, rows, windows.kernel[1], problem.channels_of_group, windows.output[1], n)
    return {"columns": Buffer(shape, lifetime)}


def copied_elements(problem: Problem) -> int:
    """How many elements the expansion copies for one image."""
    windows = problem.windows
    if reads_map(windows):
        return 0
    (oh, ow), (kh, kw) = windows.output, windows.kernel
    return (oh if kh == 1 else windows.padded[0]) * kw * problem.channels * ow


def tiles(problem: Problem, x: Array, buffers: Mapping[str, Array], most_rows: int) -> Iterator[Tile]:
    """Yield the tiles that hold all windows of a map, with at most `most` output rows each."""
    oh, ow = problem.windows.output
    if "columns" not in buffers:
        for first in range(0, oh, most_rows):
            rows = slice(first, min(first + most_rows, oh))
            yield Tile(slice(0, problem.groups), rows, [], grouped_rows(x[rows], problem.groups))
        return
    columns, source, n = buffers["columns"], grouped_map(x, problem.groups), x.shape[-1]
    item, down, height = columns.itemsize, _row_distance(problem.windows), min(most_rows, rows_of_tile(problem, n))
    fill = clear(padding_views(problem.windows, columns))
    for group, first in product(range(0, problem.groups, len(columns)), range(0, oh, height)):
        groups, rows = slice(group, group + len(columns)), slice(first, min(first + height, oh))
        count = rows.stop - rows.start
        view = as_strided(
            columns,
            (len(columns), count, problem.depth, ow * n),
            (columns.strides[0], down * columns.strides[1], ow * n * item, item),
            writeable=False,
        )
        read, start = columns[:, : _rows_read(problem.windows, count)], first * problem.windows.stride[0]
        cleared = group > 0 and height == oh  # rows above and below the map are still zero
        fill += _expand(problem.windows, source[groups], read, start - problem.windows.padding[0], cleared=cleared)
        yield Tile(groups, rows, fill, view)
        fill = []


def padding_views(windows: Windows, columns: Array) -> list[Array]:
    """Views of expanded columns (groups, rows, kw, c, ow, n): the places of padding to the left and right."""
    taps = range(windows.kernel[1])
    return [
        edge for kx in taps for edge in unreached_columns(columns[:, :, kx], slice(*outputs_of_tap(windows, 1, kx)))
    ]


def _expand(windows: Windows, source: Array, columns: Array, start: int, *, cleared: bool) -> list[Step]:
    """Copy every column tap of the rows from `start` on; rows above and below the map become zero unless `cleared`."""
    step = windows.stride[0] // _row_distance(windows)
    low = max(0, -(start // step))
    high = max(low, min(columns.shape[1], (windows.height - 1 - start) // step + 1))
    rows, inner = slice(start + low * step, start + high * step, step), columns[:, low:high]
    steps = [] if cleared else clear([columns[:, :low], columns[:, high:]])
    if high == low:
        return steps
    if not any(windows.padding[2:]):
        return [*steps, copy(_all_taps(windows, source[:, rows], inner.shape), inner)]
    moves = axis_taps(windows, 1)
    return [*steps, *(copy(source[:, rows, :, read], inner[:, :, kx, :, written]) for kx, read, written in moves)]


def _all_taps(windows: Windows, source: Array, shape: Shape) -> Array:
    """A view of rows (groups, rows, c, w, n) as all column taps read them, (groups, rows, kw, c, ow, n)."""
    group, row, channel, column, image = source.strides
    strides = (group, row, windows.dilation[1] * column, channel, windows.stride[1] * column, image)
    return as_strided(source, shape, strides, writeable=False)
