"""Convolution by patches (im2col), for any stride, padding, dilation and groups.

Patches are copied for a tile of output rows at a time, (groups, rows, K, ow*n) with K = c*kh*kw in the order of the
weights, so that the weights need no reordering and a tile stays in the cache:
y = W P, dW = sum over rows of P dy^T, and dx adds W^T dy tap by tap (col2im).

If a row has few columns, because images are small and few, most of the time of a product for each row is its start.
Then y is a single product with the patches of all rows of a tile side by side, (groups, K, rows*ow*n), and a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from cnnspec.kernels.blocks import FEWEST_ROWS, block, product
from cnnspec.kernels.elementwise import add_rows, clear, copy
from cnnspec.kernels.kernel import FULL, Kernel, Work, nothing_to_prepare, product_macs
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.kernels.taps import inputs_of_tap, outputs_of_tap
from cnnspec.kernels.views import grouped_map, grouped_rows, part
from cnnspec.shapes import Shape

TILE = 1 << 19  # elements: 2 MiB of float32; smaller tiles save memory and lose to the calls that they add


def _rows_of_tile(problem: Problem, n: int) -> int:
    oh, ow = problem.windows.output
    return max(1, min(oh, TILE // (problem.groups * problem.depth * ow * n)))


def _tile_shape(problem: Problem, n: int) -> Shape:
    return (problem.groups, _rows_of_tile(problem, n), problem.depth, problem.windows.output[1] * n)


def _tiles(problem: Problem, tile: Array, n: int) -> Iterator[tuple[slice, Array]]:
    """Yield the output rows of each tile, and the part of the array `tile` that holds their patches."""
    oh, count = problem.windows.output[0], tile.shape[1]
    for first in range(0, oh, count):
        rows = slice(first, min(first + count, oh))
        yield rows, tile[:, : rows.stop - rows.start]


def _taps(problem: Problem, rows: slice, patches: Array, source: Array) -> Iterator[tuple[Array, Array]]:
    """Yield for every tap its part of the patches and the part of the map that it reads, views of equal shapes."""
    windows, n = problem.windows, source.shape[-1]
    (kh, kw), ow = windows.kernel, windows.output[1]
    by_tap = patches.reshape(*patches.shape[:2], problem.channels_of_group, kh, kw, ow, n)
    for ky in range(kh):
        top, bottom = outputs_of_tap(windows, 0, ky)
        top, bottom = max(top, rows.start), min(bottom, rows.stop)
        for kx in range(kw):
            left, right = outputs_of_tap(windows, 1, kx)
            if bottom > top and right > left:
                of_tap = by_tap[:, top - rows.start : bottom - rows.start, :, ky, kx, left:right]
                down, across = inputs_of_tap(windows, 0, ky, top, bottom), inputs_of_tap(windows, 1, kx, left, right)
                yield of_tap, source[:, down, :, across]


def _joined(problem: Problem, n: int) -> bool:
    """Whether one product computes all rows of a tile."""
    return problem.windows.output[1] * n < FULL


def _fill(problem: Problem, rows: slice, patches: Array, source: Array) -> list[Step]:
    moves = list(_taps(problem, rows, patches, source))
    padded = sum(of_tap.size for of_tap, _ in moves) < patches.size
    return [*clear([patches] if padded else []), *(copy(origin, of_tap) for of_tap, origin in moves)]


def _grouped_weight(problem: Problem, weight: Array) -> Array:
    return weight.reshape(problem.groups, 1, problem.filters_of_group, problem.depth)


def _forward(problem: Problem, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    source, target = grouped_map(x, problem.groups), grouped_rows(y, problem.groups)
    matrix, n = _grouped_weight(problem, weight), x.shape[-1]
    steps: list[Step] = []
    for rows, patches in _tiles(problem, buffers["patches"], n):
        if _joined(problem, n):
            steps += _side_by_side(problem, rows, source, matrix[:, 0], target[:, rows], buffers)
        else:
            steps += [*_fill(problem, rows, patches, source), product(matrix, patches, target[:, rows])]
    return steps


def _side_by_side(
    problem: Problem, rows: slice, source: Array, matrix: Array, target: Array, buffers: Mapping[str, Array]
) -> list[Step]:
    """Steps that compute all rows of a tile as one product, (groups, filters, rows*ow*n)."""
    groups, count, _, columns = target.shape
    patches, products = (
        part(buffers[name].reshape(-1), (groups, length, count, columns))
        for name, length in (("patches", problem.depth), ("products", problem.filters_of_group))
    )
    wide_patches, wide_products = (array.reshape(groups, -1, count * columns) for array in (patches, products))
    return [
        *_fill(problem, rows, patches.swapaxes(1, 2), source),
        product(matrix, wide_patches, wide_products),
        copy(products.swapaxes(1, 2), target),
    ]


def _input_gradient(problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    source, target = grouped_rows(dy, problem.groups), grouped_map(dx, problem.groups)
    n = dx.shape[-1]
    columns = problem.windows.output[1] * n
    short = block(problem.depth, FEWEST_ROWS, problem.filters_of_group * columns)
    outer = (problem.groups, 1, problem.depth // short, short)
    transposed = _grouped_weight(problem, weight).transpose(0, 1, 3, 2).reshape(*outer, problem.filters_of_group)

    steps = clear([dx])
    for rows, patches in _tiles(problem, buffers["patches"], n):
        blocks = patches.reshape(problem.groups, -1, *outer[2:], columns)
        steps += [product(transposed, source[:, rows, None], blocks), _scatter(problem, rows, patches, target)]
    return steps


def _scatter(problem: Problem, rows: slice, patches: Array, target: Array) -> Step:
    moves = list(_taps(problem, rows, patches, target))

    def step() -> None:
        for products, place in moves:
            np.add(place, products, out=place)

    return step


def _weight_gradient(problem: Problem, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    source = grouped_map(x, problem.groups)
    transposed = grouped_rows(dy, problem.groups).transpose(0, 1, 3, 2)  # (groups, oh, ow*n, filters)
    products, total, partial = buffers["products"], buffers["total"], buffers["partial"]
    steps: list[Step] = []
    for rows, patches in _tiles(problem, buffers["patches"], x.shape[-1]):
        of_rows = products[:, : rows.stop - rows.start]
        steps += [
            *_fill(problem, rows, patches, source),
            product(patches, transposed[:, rows], of_rows),
            add_rows(of_rows, total, partial, first=rows.start == 0),
        ]
    target = dweight.reshape(problem.groups, problem.filters_of_group, problem.depth)
    summed = total.transpose(0, 2, 1)

    return [*steps, copy(summed, target)]


def _patches(lifetime: Lifetime, problem: Problem, n: int) -> dict[str, Buffer]:
    return {"patches": Buffer(_tile_shape(problem, n), lifetime)}


def _forward_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    buffers = _patches("forward", problem, n)
    if _joined(problem, n):
        groups, rows, _, columns = buffers["patches"].shape
        buffers["products"] = Buffer((groups, problem.filters_of_group, rows, columns))
    return buffers


def _input_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    return _patches("input", problem, n)


def _weight_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    matrix = (problem.depth, problem.filters_of_group)
    return {
        **_patches("params", problem, n),
        "products": Buffer((problem.groups, _rows_of_tile(problem, n), *matrix), "params"),
        "total": Buffer((problem.groups, *matrix), "params"),
        "partial": Buffer((problem.groups, *matrix), "params"),
    }


def _supports(problem: Problem) -> bool:
    return True


def _copied(problem: Problem) -> int:
    return problem.groups * problem.depth * prod(problem.windows.output)


def _calls(problem: Problem) -> int:
    return prod(problem.windows.kernel) + 4  # if there is one tile


def _work(problem: Problem) -> Work:
    moved = _copied(problem) + 2 * problem.filters * prod(problem.windows.output)
    columns = prod(problem.windows.output)  # of all rows: short rows are joined, and long ones are priced alike
    return Work(product_macs(problem), moved, calls=_calls(problem), columns=columns)


def _weight_work(problem: Problem) -> Work:
    rows = problem.windows.output[0]
    once = 2 * rows * problem.depth * problem.filters  # one product an output row, then their sum
    return replace(_work(problem), once=once, columns=problem.windows.output[1])


def _input_work(problem: Problem) -> Work:
    # products are written, then read together with the gradient that they are added to
    moved = 5 * _copied(problem) // 2
    return Work(product_macs(problem), moved, calls=_calls(problem), columns=problem.windows.output[1])


FORWARD = Kernel("patches", _supports, _work, _forward_scratch, nothing_to_prepare, _forward)
INPUT = Kernel("patches", _supports, _input_work, _input_scratch, nothing_to_prepare, _input_gradient)
WEIGHT = Kernel("patches", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient)
