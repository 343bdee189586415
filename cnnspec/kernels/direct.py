"""Direct convolution on windows that are views of the expanded columns: no patches.

With T the windows (groups, oh, K, ow*n): y = W T, dW = sum over rows of T dy^T, and dx at stride 1 is the same
correlation of dy with the weights turned by 180 degrees. A 1x1 kernel at stride 1 reads the map itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from cnnspec.kernels.blocks import NARROW, block, column_blocks, gradient_product, product
from cnnspec.kernels.columns import column_buffers, copied_elements, reads_map, rows_of_tile, tiles
from cnnspec.kernels.elementwise import add_rows, copy
from cnnspec.kernels.kernel import FULL, Kernel, Work, nothing_to_prepare, product_macs
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.views import grouped_rows
from cnnspec.shapes import Windows

PRODUCTS = 1 << 20  # elements of weight gradients of single rows that are held until they are summed: 4 MiB


def correlate(windows: Array, packed: Array, y: Array) -> Step:
    """y = W T, one product for each block of columns of each output row of each group."""
    groups, m, depth = packed.shape
    rows = grouped_rows(y, groups)
    width = block(rows.shape[-1], NARROW, m * depth)
    weight, right, out = packed[:, None, None], column_blocks(windows, width), column_blocks(rows, width)

    return product(weight, right, out)


def _forward_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    packed = Buffer((problem.groups, problem.filters_of_group, problem.depth), "prepare")
    return {"packed": packed, **column_buffers(problem, n, "forward")}


def _pack(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps that reorder weights (filters, c, kh, kw) into (groups, filters, kh*kw*c), the order of the windows."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(problem.groups, filters // problem.groups, kh, kw, c)
    source = weight.reshape(problem.groups, filters // problem.groups, c, kh, kw).transpose(0, 1, 3, 4, 2)
    return [copy(source, target)]


def _forward(problem: Problem, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    steps: list[Step] = []
    for tile in tiles(problem, x, buffers, problem.windows.output[0]):
        out = y[tile.rows, tile.maps(problem.filters_of_group)]
        steps += [*tile.fill, correlate(tile.windows, buffers["packed"][tile.groups], out)]
    return steps


def gradient_problem(problem: Problem) -> Problem:
    """The convolution of dy that gives dx at stride 1: padding e - 1 - p, channels and filters exchanged."""
    windows = problem.windows
    (eh, ew), (top, bottom, left, right) = windows.extent, windows.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    over = Windows(*windows.output, windows.kernel, (1, 1), windows.dilation, padding)
    return Problem(over, problem.filters, problem.channels, problem.groups)


def _input_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    above = gradient_problem(problem)
    packed = Buffer((above.groups, above.filters_of_group, above.depth), "prepare")
    return {"packed": packed, **column_buffers(above, n, "input")}


def _pack_turned(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps that reorder weights (filters, c, kh, kw) into (groups, c, kh*kw*filters), turned by 180 degrees."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(problem.groups, c, kh, kw, filters // problem.groups)
    grouped = weight.reshape(problem.groups, filters // problem.groups, c, kh, kw)
    return [copy(grouped[..., ::-1, ::-1].transpose(0, 2, 3, 4, 1), target)]


def _input_gradient(problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    return _forward(gradient_problem(problem), dy, weight, dx, buffers)


def _weight_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    matrix = (problem.depth, problem.filters_of_group)
    return {
        **column_buffers(problem, n, "params"),
        "products": Buffer((problem.groups, _rows_of_products(problem, n), *matrix), "params"),
        "total": Buffer((problem.groups, *matrix), "params"),
        "partial": Buffer((problem.groups, *matrix), "params"),
    }


def _weight_gradient(problem: Problem, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """dW^T = T dy^T for each output row, then their sum."""
    gradients = grouped_rows(dy, problem.groups)
    products, total, partial = buffers["products"], buffers["total"], buffers["partial"]
    filters, c, kh, kw = dweight.shape
    target = dweight.reshape(problem.groups, filters // problem.groups, c, kh, kw)
    summed = total.reshape(problem.groups, kh, kw, c, filters // problem.groups).transpose(0, 4, 3, 1, 2)
    steps: list[Step] = []
    for tile in tiles(problem, x, buffers, products.shape[1]):
        part, groups = products[tile.groups, : tile.windows.shape[1]], tile.groups
        steps += [
            *tile.fill,
            gradient_product(tile.windows, gradients[groups, tile.rows], part),
            add_rows(part, total[groups], partial[groups], first=tile.rows.start == 0),
        ]
    return [*steps, copy(summed, target)]


def _rows_of_products(problem: Problem, n: int) -> int:
    """How many output rows' products are held at a time: those of a tile, or fewer for large weights."""
    rows = problem.windows.output[0] if reads_map(problem.windows) else rows_of_tile(problem, n)
    return max(1, min(rows, PRODUCTS // (problem.groups * problem.depth * problem.filters_of_group)))


def _supports(problem: Problem) -> bool:
    # otherwise a window's rows are not uniformly spaced
    return problem.windows.dilation[0] == 1 or problem.windows.kernel[0] == 1


def _supports_input(problem: Problem) -> bool:
    if not _supports(problem) or problem.windows.stride != (1, 1):
        return False
    return min(gradient_problem(problem).windows.padding) >= 0  # negative padding would crop dy


def _work(problem: Problem) -> Work:
    moved_in_all = copied_elements(problem) + 2 * problem.filters * prod(problem.windows.output)  # results go to memory
    columns = problem.windows.output[1] if problem.filters_of_group > 1 else FULL  # a single row needs no packing
    return Work(product_macs(problem), moved_in_all, columns=columns)


def _weight_work(problem: Problem) -> Work:
    once = 2 * problem.windows.output[0] * problem.depth * problem.filters  # one product an output row, then their sum
    return replace(_work(problem), once=once)


def _input_work(problem: Problem) -> Work:
    return _work(gradient_problem(problem))


FORWARD = Kernel("direct", _supports, _work, _forward_scratch, _pack, _forward)
INPUT = Kernel("direct", _supports_input, _input_work, _input_scratch, _pack_turned, _input_gradient)
WEIGHT = Kernel("direct", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient)
