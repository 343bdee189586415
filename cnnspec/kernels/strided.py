"""The input's gradient of a strided convolution, a phase at a time: rows a, a + s, ... and columns b, b + s, ... of dx.

With stride s, only the taps u = a + top (mod s), v = b + left (mod s) reach phase (a, b). So it is a correlation of dy
at stride 1 with these few taps, turned by 180 degrees, and every element of dx is written once. The phases of one b
read the same expanded columns of dy, each the part of a window that holds its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from cnnspec.kernels.columns import (
    FEWEST_ROWS,
    TILE,
    column_buffers,
    copied_elements,
    groups_of_tile,
    rows_of_tile,
    tiles,
)
from cnnspec.kernels.direct import correlate
from cnnspec.kernels.elementwise import clear, copy
from cnnspec.kernels.kernel import Kernel, Work, product_macs
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.views import part
from cnnspec.shapes import Shape, Windows


@dataclass(frozen=True)
class Phase:
    """Places first, first + stride, ... along one axis of dx, and the taps that reach them.

    Place t of the phase sums over positions t + low ... t + low + count - 1 of dy, the last tap first.
    """

    first: int
    length: int
    taps: slice
    count: int
    low: int


def _phases(windows: Windows, axis: int) -> list[Phase]:
    length, kernel = (windows.height, windows.width)[axis], windows.kernel[axis]
    stride, before = windows.stride[axis], windows.padding[2 * axis]
    phases = []
    for first in range(min(stride, length)):
        taps = range((first + before) % stride, kernel, stride)
        low = (first + before - taps[-1]) // stride if taps else 0
        phases.append(
            Phase(first, len(range(first, length, stride)), slice(taps.start, kernel, stride), len(taps), low)
        )
    return phases


def _reached_phases(windows: Windows) -> tuple[list[Phase], list[Phase]]:
    """The phases of rows and of columns that taps reach; an element outside of all these has gradient 0."""
    rows, columns = ([phase for phase in _phases(windows, axis) if phase.count] for axis in (0, 1))
    return (rows, columns) if rows and columns else ([], [])


def _covering(problem: Problem, columns: Phase) -> Problem:
    """The correlation of dy whose windows cover the windows of all phases of rows, for one phase of columns."""
    windows, (rows, _) = problem.windows, _reached_phases(problem.windows)
    (oh, ow), length, width = windows.output, max(phase.length for phase in rows), columns.length
    low = min(phase.low for phase in rows)
    height = max(phase.low + phase.count for phase in rows) - low
    below, right = length - 1 + low + height - oh, width - 1 + columns.low + columns.count - ow
    over = Windows(oh, ow, (height, columns.count), (1, 1), (1, 1), (-low, below, -columns.low, right))
    return Problem(over, problem.filters, problem.channels, problem.groups)


def _products(problem: Problem, columns: Phase, n: int) -> Shape:
    """The shape of a tile's products before they are merged into dx: (rows, c, columns of the phase, n)."""
    over = _covering(problem, columns)
    channels = groups_of_tile(over, n) * problem.channels_of_group
    most_rows = max(FEWEST_ROWS, TILE // (channels * columns.length * n))
    return (min(rows_of_tile(over, n), most_rows), channels, columns.length, n)


def _packed_name(rows: Phase, columns: Phase) -> str:
    return f"packed.{rows.first}.{columns.first}"


def _scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    """The packed weights of every phase, and buffers that all phases of columns use in turn, as large as any needs."""
    packed, sizes = dict[str, Buffer](), {"columns": 0, "products": 0}
    reached_rows, reached_columns = _reached_phases(problem.windows)
    for columns in reached_columns:
        over = _covering(problem, columns)
        shapes = {name: buffer.shape for name, buffer in column_buffers(over, n, "input").items()}
        if problem.windows.stride[1] > 1:
            shapes["products"] = _products(problem, columns, n)
        for name, shape in shapes.items():
            sizes[name] = max(sizes[name], prod(shape))
        for rows in reached_rows:
            depth = rows.count * columns.count * over.channels_of_group
            packed[_packed_name(rows, columns)] = Buffer((problem.groups, over.filters_of_group, depth), "prepare")
    return packed | {name: Buffer((size,), "input") for name, size in sizes.items() if size}


def _prepare(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps that reorder weights (filters, c, kh, kw) into (groups, c, taps*filters) by phase, last tap first."""
    filters, c, kh, kw = weight.shape
    grouped = weight.reshape(problem.groups, filters // problem.groups, c, kh, kw)
    steps: list[Step] = []
    reached_rows, reached_columns = _reached_phases(problem.windows)
    for columns in reached_columns:
        for rows in reached_rows:
            source = grouped[..., rows.taps, columns.taps][..., ::-1, ::-1].transpose(0, 2, 3, 4, 1)
            steps.append(copy(source, buffers[_packed_name(rows, columns)].reshape(source.shape)))
    return steps


def _input_gradient(problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    (sh, sw), n = problem.windows.stride, dx.shape[-1]
    reached_rows, reached_columns = _reached_phases(problem.windows)
    steps = _clear_rest(dx, sh, sw, reached_rows, reached_columns)
    for columns in reached_columns:
        over, most_rows = _covering(problem, columns), _products(problem, columns, n)[0]
        held = {
            name: part(buffers["columns"], buffer.shape) for name, buffer in column_buffers(over, n, "input").items()
        }
        lowest = -over.windows.padding[0]
        for tile in tiles(over, dy, held, most_rows):
            steps += tile.fill
            for rows in reached_rows:
                places = slice(tile.rows.start, min(tile.rows.stop, rows.length))
                place = dx[rows.first :: sh, tile.maps(problem.channels_of_group), columns.first :: sw][places]
                if not place.size:
                    continue
                row = columns.count * over.channels_of_group
                read = slice((rows.low - lowest) * row, (rows.low - lowest + rows.count) * row)
                windows = tile.windows[:, : place.shape[0], read]
                target = place if sw == 1 else part(buffers["products"], place.shape)
                steps.append(correlate(windows, buffers[_packed_name(rows, columns)][tile.groups], target))
                if sw > 1:
                    steps.append(copy(target, place))
    return steps


def _clear_rest(dx: Array, sh: int, sw: int, rows: list[Phase], columns: list[Phase]) -> list[Step]:
    """Steps that write zeros to the elements of dx that no tap reaches."""
    h, _, w, _ = dx.shape
    rest = [dx[a::sh] for a in range(min(sh, h)) if a not in {phase.first for phase in rows}]
    for b in set(range(min(sw, w))) - {phase.first for phase in columns}:
        rest += [dx[phase.first :: sh, :, b::sw] for phase in rows]
    return clear(rest)


def _supports(problem: Problem) -> bool:
    windows = problem.windows
    dense = all(d == 1 or k == 1 for d, k in zip(windows.dilation, windows.kernel, strict=True))
    return dense and windows.stride != (1, 1)


def _work(problem: Problem) -> Work:
    """The work: elements of the expanded columns and of dx; a stride of columns costs one more copy of products."""
    windows, (rows, columns) = problem.windows, _reached_phases(problem.windows)
    copied = sum(copied_elements(_covering(problem, phase)) for phase in columns)
    reached = problem.channels * sum(phase.length for phase in rows) * sum(phase.length for phase in columns)
    written = problem.channels * windows.height * windows.width
    moved_in_all = copied + written + reached * min(windows.stride[1], 2)
    return Work(product_macs(problem), moved_in_all, columns=windows.output[1])


INPUT = Kernel("direct", _supports, _work, _scratch, _prepare, _input_gradient)
