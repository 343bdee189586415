"""Depthwise convolution: products with banded matrices along the rows, sums of shifted maps along the columns.

A filter of one channel is a single row of a matrix, too little for a product. But B output rows read the same
R = (B - 1)*stride + kh input rows, so that the column tap v of B rows is a banded matrix times the map's own rows:

    y = sum_v shift_v(T_v x),    T_v[i, i*stride + u] = w[u, v].

A third of T's entries are not zero, and still it beats multiplying elements, as each pass over them costs as much as
six multiply-adds in a product. No windows are copied; between column strides a map is split into phases first. The
input's gradient sums T_v^T dy, tap by tap into the phase that it reaches, and dT_v = dy (shift_v x)^T holds the
weights' gradient on its band.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.blocks import product
from cnnspec.kernels.elementwise import accumulate, clear, copy
from cnnspec.kernels.kernel import Kernel, Work, nothing_to_prepare
from cnnspec.kernels.phases import Reach, forward_reaches, gradient_reaches, width_of_phase
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.kernels.views import unreached_columns
from cnnspec.shapes import Windows

HEIGHT = 4  # rows that a band writes: higher bands multiply more zeros, lower ones read rows more often
TILE = 1 << 18  # elements of a tile: smaller tiles cost two workers more in calls than they gain in cache hits


@dataclass(frozen=True)
class Bands:
    """The division of rows into bands: each band writes `height` rows and reads `depth` rows."""

    height: int
    depth: int
    rows: int  # the rows that all bands write together
    source: int  # the rows of the array that they read
    step: int  # the distance between the first rows that neighbouring bands read
    before: int  # how many rows above that array the first band starts

    def __iter__(self) -> Iterator[tuple[slice, slice, slice]]:
        """Yield for each band the rows that it writes, those that it reads, and the place of these among `depth`."""
        for index in range(self.count):
            first = index * self.step - self.before
            low, high = max(first, 0), min(first + self.depth, self.source)
            write = slice(index * self.height, min((index + 1) * self.height, self.rows))
            yield write, slice(low, max(low, high)), slice(low - first, max(low, high) - first)

    @cached_property
    def count(self) -> int:
        """The number of bands, of which the last may be lower."""
        return -(-self.rows // self.height)


def _forward_bands(windows: Windows) -> Bands:
    stride, rows = windows.stride[0], windows.output[0]
    height = min(HEIGHT, rows)
    depth = (height - 1) * stride + windows.extent[0]
    return Bands(height, depth, rows, windows.height, height * stride, windows.padding[0])


def _input_bands(windows: Windows) -> Bands:
    """The bands of dx: dx[r] reads dy[i] for r = i*stride + u*dilation - top, so they start at multiples of stride."""
    stride, top = windows.stride[0], windows.padding[0]
    strides = max(1, min(HEIGHT // stride, -(-windows.height // stride)))
    height = strides * stride
    before = (windows.extent[0] - 1 - top) // stride
    depth = (height - 1 + top) // stride + before + 1
    return Bands(height, depth, windows.height, windows.output[0], strides, before)


def _diagonal(matrices: Array, start: tuple[int, int], step: tuple[int, int], count: int) -> Array:
    """A view (count, ...) of entries of matrices (..., rows, columns): from `start` on, in equal steps."""
    *outer, row, item = matrices.strides
    (down, across), begin = step, matrices[..., start[0] :, start[1] :]
    return as_strided(begin, (count, *matrices.shape[:-2]), (down * row + across * item, *outer))


def _forward_diagonals(windows: Windows, matrices: Array) -> list[Array]:
    """Views of band matrices: for every row tap u, the entries [i, i*stride + u*dilation]."""
    stride, dilation, height = windows.stride[0], windows.dilation[0], matrices.shape[-2]
    return [_diagonal(matrices, (0, u * dilation), (1, stride), height) for u in range(windows.kernel[0])]


def _input_diagonals(windows: Windows, matrices: Array) -> list[Array]:
    """Views: for every row tap u, the entries [i*stride + u*dilation - top, i], i counted from the first row read."""
    bands, stride = _input_bands(windows), windows.stride[0]
    diagonals = []
    for u in range(windows.kernel[0]):
        offset = u * windows.dilation[0] - windows.padding[0] - bands.before * stride
        first = max(0, -(offset // stride))
        last = min(bands.depth, (bands.height - 1 - offset) // stride + 1)
        start = (first * stride + offset, first)
        diagonals.append(_diagonal(matrices, start, (stride, 1), max(0, last - first)))
    return diagonals


def _fill(weight: Array, matrices: Array, diagonals: list[Array]) -> Step:
    """Write the weights (c*m, 1, kh, kw) on the diagonals of matrices (kw, c, m, rows, columns)."""
    taps = weight.reshape(*matrices.shape[1:3], *weight.shape[2:]).transpose(2, 3, 0, 1)  # (kh, kw, c, m)

    def step() -> None:
        matrices.fill(0)
        for diagonal, tap in zip(diagonals, taps, strict=True):
            np.copyto(diagonal, tap)

    return step


def _channels_of_tile(problem: Problem, elements: int, most_elements: int) -> int:
    """How many channels a tile has, if each has `elements`: tiles are about equal and hold at most `most` elements."""
    tiles = -(-problem.channels * elements // most_elements)
    return -(-problem.channels // min(tiles, problem.channels))


def _tiles(problem: Problem, count: int) -> Iterator[tuple[slice, slice]]:
    """Yield the channels of each tile, and the filters that see them."""
    m = problem.filters_of_group
    for first in range(0, problem.channels, count):
        last = min(first + count, problem.channels)
        yield slice(first, last), slice(first * m, last * m)


def _matrix_of(rows: Array, reached: slice, outer: tuple[int, int]) -> Array:
    """A view of the columns `reached` of rows (rows, c*m, w, n) as matrices (c, m, rows, columns*n)."""
    part = rows[:, :, reached]
    return part.reshape(part.shape[0], *outer, part.shape[2] * part.shape[3]).transpose(1, 2, 0, 3)


@dataclass(frozen=True)
class _Term:
    """A product of one column tap: the places that it reaches, its matrices (c, m, rows, depth), the rows it reads."""

    reach: Reach
    matrices: Array
    rows: Array  # (depth, c, w, n)


def _sum_of(terms: list[_Term], targets: list[Array]) -> list[Step]:
    """The first target (rows, c*m, w, n) = the sum of the terms' products; the other targets hold one term each.

    Sums run over whole rows without gaps: the other targets are zero where their taps do not reach.
    """
    total = targets[0]
    if not terms:
        return clear([total])
    steps = clear(unreached_columns(total, terms[0].reach.write))
    for term, target in zip(terms, targets, strict=False):
        outer, read = term.matrices.shape[:2], term.reach.read
        operand = _matrix_of(term.rows, read, (outer[0], 1))
        steps.append(product(term.matrices, operand, _matrix_of(target, term.reach.write, outer)))
        if target is not total:
            steps.append(accumulate(total, target))
    return steps


def _widest_first(reaches: list[Reach]) -> list[Reach]:
    return sorted((r for r in reaches if r.last > r.first), key=lambda r: r.first - r.last)


def _read_phases(reaches: list[Reach]) -> list[int]:
    return sorted({reach.phase for reach in reaches if reach.last > reach.first})


def _forward_matrices(problem: Problem) -> tuple[int, ...]:
    bands = _forward_bands(problem.windows)
    return (problem.windows.kernel[1], problem.channels, problem.filters_of_group, bands.height, bands.depth)


def _planes(problem: Problem, n: int, channels: int, lifetime: Lifetime) -> dict[str, Buffer]:
    """The buffer of a map whose columns are split into phases; none at stride 1."""
    windows, bands = problem.windows, _forward_bands(problem.windows)
    if windows.stride[1] == 1:
        return {}
    count = len(_read_phases(forward_reaches(windows)))
    return {"planes": Buffer((count, bands.depth, channels, width_of_phase(windows, 0), n), lifetime)}


def _split(problem: Problem, part: Array, buffers: Mapping[str, Array]) -> tuple[dict[int, Array], list[Step]]:
    """The phases of a part (rows, c, w, n) of the map, and the steps that copy them."""
    if "planes" not in buffers:
        return {0: part}, []
    planes, steps = {}, []
    for phase, plane in zip(_read_phases(forward_reaches(problem.windows)), buffers["planes"], strict=True):
        source = part[:, :, phase :: problem.windows.stride[1]]
        planes[phase] = plane[: part.shape[0], : part.shape[1], : source.shape[2]]
        steps.append(copy(source, planes[phase]))
    return planes, steps


def _forward_channels(problem: Problem, n: int) -> int:
    windows, taps = problem.windows, max(1, problem.windows.kernel[1] - 1)
    rows = max(taps * problem.filters_of_group * HEIGHT, _forward_bands(windows).depth if windows.stride[1] > 1 else 0)
    return _channels_of_tile(problem, rows * windows.output[1] * n, TILE)


def _forward_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    count, bands = _forward_channels(problem, n), _forward_bands(problem.windows)
    taps = max(1, problem.windows.kernel[1] - 1)
    shape = (taps, bands.height, count * problem.filters_of_group, problem.windows.output[1], n)
    return {
        "matrices": Buffer(_forward_matrices(problem), "prepare"),
        "held": Buffer(shape),
        **_planes(problem, n, count, "forward"),
    }


def _prepare(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    matrices = buffers["matrices"]
    return [_fill(weight, matrices, _forward_diagonals(problem.windows, matrices))]


def _forward(problem: Problem, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    matrices, held = buffers["matrices"], buffers["held"]
    reaches = _widest_first(forward_reaches(problem.windows))
    unreached = [
        edge for array, reach in zip(held, reaches[1:], strict=False) for edge in unreached_columns(array, reach.write)
    ]
    steps = clear(unreached)
    for rows, read, part in _forward_bands(problem.windows):
        for maps, filters in _tiles(problem, _forward_channels(problem, x.shape[-1])):
            planes, split = _split(problem, x[read, maps], buffers)
            place = y[rows, filters]
            terms = [
                _Term(reach, matrices[reach.tap, maps, :, : place.shape[0], part], planes[reach.phase])
                for reach in reaches
            ]
            steps += [*split, *_sum_of(terms, [place, *held[:, : place.shape[0], : place.shape[1]]])]
    return steps


def _input_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    windows, bands, m = problem.windows, _input_bands(problem.windows), problem.filters_of_group
    matrices = (windows.kernel[1], problem.channels, m, bands.height, bands.depth)
    terms = max(1, windows.kernel[1] * m - (windows.stride[1] == 1))
    held = (terms, bands.height, _input_channels(problem, n), width_of_phase(windows, 0), n)
    return {"matrices": Buffer(matrices, "prepare"), "held": Buffer(held, "input")}


def _input_channels(problem: Problem, n: int) -> int:
    windows, terms = problem.windows, max(1, problem.windows.kernel[1] - 1) * problem.filters_of_group
    return _channels_of_tile(problem, terms * _input_bands(windows).height * width_of_phase(windows, 0) * n, TILE)


def _prepare_transposed(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    matrices = buffers["matrices"]
    return [_fill(weight, matrices, _input_diagonals(problem.windows, matrices))]


def _input_gradient(problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    windows, m, matrices, held = problem.windows, problem.filters_of_group, buffers["matrices"], iter(buffers["held"])
    oh, _, ow, n = dy.shape
    source = dy.reshape(oh, problem.channels, m, ow, n)
    edges: list[Array] = []
    steps: list[Step] = []
    for phase in range(min(windows.stride[1], windows.width)):
        width, split = width_of_phase(windows, phase), windows.stride[1] > 1
        reached = [(r, f) for r in _widest_first(gradient_reaches(windows)) if r.phase == phase for f in range(m)]
        apart = reached if split else reached[1:]  # without gaps, the first product is written to its place at once
        others = [next(held)[:, :, :width] for _ in apart]
        edges += [
            edge for array, (r, _) in zip(others, apart, strict=True) for edge in unreached_columns(array, r.write)
        ]
        for rows, read, part in _input_bands(windows):
            for maps, _ in _tiles(problem, _input_channels(problem, n)):
                place = dx[rows, maps, phase :: windows.stride[1]]
                height, count = place.shape[:2]
                terms = [
                    _Term(r, matrices[r.tap, maps, f : f + 1, :height, part], source[read, maps, f]) for r, f in reached
                ]
                targets = [array[:height, :count] for array in others]
                if not split or not reached:
                    steps += _sum_of(terms, [place, *targets])
                else:
                    steps += [*_sum_of(terms, targets), copy(targets[0], place)]
    return [*clear(edges), *steps]


def _weight_channels(problem: Problem, n: int) -> int:
    windows, bands = problem.windows, _forward_bands(problem.windows)
    if windows.stride[1] == 1:
        return problem.channels
    return _channels_of_tile(problem, bands.depth * windows.output[1] * n, TILE)


def _weight_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    matrices = _forward_matrices(problem)
    return {
        "products": Buffer((_forward_bands(problem.windows).count, *matrices), "params"),
        "total": Buffer(matrices, "params"),
        **_planes(problem, n, _weight_channels(problem, n), "params"),
    }


def _weight_gradient(problem: Problem, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    windows, m, products, total = problem.windows, problem.filters_of_group, buffers["products"], buffers["total"]
    steps = clear([products])
    for (rows, read, part), by_tap in zip(_forward_bands(windows), products, strict=True):
        for maps, filters in _tiles(problem, _weight_channels(problem, x.shape[-1])):
            planes, split = _split(problem, x[read, maps], buffers)
            steps += split
            for reach in _widest_first(forward_reaches(windows)):
                left = _matrix_of(dy[rows, filters], reach.write, (maps.stop - maps.start, m))
                right = _matrix_of(planes[reach.phase], reach.read, (maps.stop - maps.start, 1)).swapaxes(-1, -2)
                steps.append(product(left, right, by_tap[reach.tap, maps, :, : left.shape[-2], part]))
    taps = dweight.reshape(problem.channels, m, *windows.kernel).transpose(2, 3, 0, 1)  # (kh, kw, c, m)
    return [*steps, _sum_bands(products, total, _forward_diagonals(windows, total), taps)]


def _sum_bands(products: Array, total: Array, diagonals: list[Array], taps: Array) -> Step:
    """taps[u] = the sum of the products on diagonal u."""

    def step() -> None:
        np.add.reduce(products, axis=0, out=total)
        for diagonal, tap in zip(diagonals, taps, strict=True):
            np.add.reduce(diagonal, axis=0, out=tap)

    return step


def _supports(problem: Problem) -> bool:
    return problem.channels == problem.groups and problem.channels > 1


def _work_of(problem: Problem, bands: Bands, columns: int, added: int) -> Work:
    """The work of the products of all column taps, and of `added` elements that are summed or copied besides."""
    macs = problem.windows.kernel[1] * problem.filters * bands.height * bands.depth * bands.count * columns
    return Work(bands=macs, moved=added)


def _split_elements(problem: Problem) -> int:
    windows = problem.windows
    return 0 if windows.stride[1] == 1 else problem.channels * windows.height * windows.width


def _forward_work(problem: Problem) -> Work:
    windows = problem.windows
    summed = (windows.kernel[1] - 1) * problem.filters * prod(windows.output)
    return _work_of(problem, _forward_bands(windows), windows.output[1], summed + _split_elements(problem))


def _input_work(problem: Problem) -> Work:
    windows = problem.windows
    firsts = len(_read_phases(gradient_reaches(windows)))  # the first tap of each phase is not added
    summed = (windows.kernel[1] - firsts) * problem.filters * windows.height * windows.output[1]
    return _work_of(problem, _input_bands(windows), windows.output[1], summed + _split_elements(problem))


def _weight_work(problem: Problem) -> Work:
    work = _work_of(problem, _forward_bands(problem.windows), problem.windows.output[1], _split_elements(problem))
    return replace(work, bands=0, band_gradients=work.bands)


FORWARD = Kernel("depthwise", _supports, _forward_work, _forward_scratch, _prepare, _forward)
INPUT = Kernel("depthwise", _supports, _input_work, _input_scratch, _prepare_transposed, _input_gradient)
WEIGHT = Kernel("depthwise", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient)
