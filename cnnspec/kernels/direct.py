"""Direct convolution on windows that are views of the expanded columns: no patches.

With T the windows (groups, oh, K, ow*n): y = W T, dW = sum over rows of T dy^T, and dx at stride 1 is the same
correlation of dy with the weights turned by 180 degrees. A 1x1 kernel at stride 1 reads the map itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from cnnspec.kernels.blocks import NARROW, block, column_blocks, gradient_product, product
from cnnspec.kernels.cases import COLUMNS, Case, Kernel, Work, add_rows, copy, grouped_rows, nothing_to_prepare
from cnnspec.kernels.columns import expanded, moved, reads_map, rows_of_tile, tiles
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.shapes import Windows

PRODUCTS = 1 << 20  # elements of the weights' gradient before rows are added up


def correlate(windows: Array, packed: Array, y: Array) -> Step:
    """y = W T, one product for each block of columns of each output row of each group."""
    groups, m, depth = packed.shape
    rows = grouped_rows(y, groups)
    width = block(rows.shape[-1], NARROW, m * depth)
    weight, right, out = packed[:, None, None], column_blocks(windows, width), column_blocks(rows, width)

    return product(weight, right, out)


def _forward_scratch(case: Case, n: int) -> dict[str, Buffer]:
    packed = Buffer((case.groups, case.filters_of_group, case.depth), "prepare")
    return {"packed": packed, **expanded(case, n, "forward")}


def _pack(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """(filters, c, kh, kw) into (groups, filters, kh*kw*c), the order of the windows."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(case.groups, filters // case.groups, kh, kw, c)
    source = weight.reshape(case.groups, filters // case.groups, c, kh, kw).transpose(0, 1, 3, 4, 2)
    return [copy(source, target)]


def _forward(case: Case, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    steps: list[Step] = []
    for tile in tiles(case, x, buffers, case.windows.output[0]):
        out = y[tile.rows, tile.maps(case.filters_of_group)]
        steps += [*tile.fill, correlate(tile.windows, buffers["packed"][tile.groups], out)]
    return steps


def gradient_case(case: Case) -> Case:
    """The convolution of dy that gives dx at stride 1: padding e - 1 - p, channels and filters exchanged."""
    windows = case.windows
    (eh, ew), (top, bottom, left, right) = windows.extent, windows.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    over = Windows(*windows.output, windows.kernel, (1, 1), windows.dilation, padding)
    return Case(over, case.filters, case.channels, case.groups)


def _input_scratch(case: Case, n: int) -> dict[str, Buffer]:
    above = gradient_case(case)
    packed = Buffer((above.groups, above.filters_of_group, above.depth), "prepare")
    return {"packed": packed, **expanded(above, n, "backward")}


def _pack_turned(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """(filters, c, kh, kw) into (groups, c, kh*kw*filters), turned by 180 degrees."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(case.groups, c, kh, kw, filters // case.groups)
    source = weight.reshape(case.groups, filters // case.groups, c, kh, kw)[..., ::-1, ::-1].transpose(0, 2, 3, 4, 1)
    return [copy(source, target)]


def _input_gradient(case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    return _forward(gradient_case(case), dy, weight, dx, buffers)


def _weight_scratch(case: Case, n: int) -> dict[str, Buffer]:
    matrix = (case.depth, case.filters_of_group)
    return {
        **expanded(case, n, "backward"),
        "products": Buffer((case.groups, _rows_of_products(case, n), *matrix), "backward"),
        "total": Buffer((case.groups, *matrix), "backward"),
        "partial": Buffer((case.groups, *matrix), "backward"),
    }


def _weight_gradient(case: Case, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """dW^T = T dy^T for each output row, then their sum."""
    gradients = grouped_rows(dy, case.groups)
    products, total, partial = buffers["products"], buffers["total"], buffers["partial"]
    filters, c, kh, kw = dweight.shape
    target = dweight.reshape(case.groups, filters // case.groups, c, kh, kw)
    summed = total.reshape(case.groups, kh, kw, c, filters // case.groups).transpose(0, 4, 3, 1, 2)
    steps: list[Step] = []
    for tile in tiles(case, x, buffers, products.shape[1]):
        part, groups = products[tile.groups, : tile.windows.shape[1]], tile.groups
        steps += [
            *tile.fill,
            gradient_product(tile.windows, gradients[groups, tile.rows], part),
            add_rows(part, total[groups], partial[groups], first=tile.rows.start == 0),
        ]
    return [*steps, copy(summed, target)]


def _rows_of_products(case: Case, n: int) -> int:
    """Output rows whose products are held at a time: those of a tile, fewer where the weights are large."""
    rows = case.windows.output[0] if reads_map(case.windows) else rows_of_tile(case, n)
    return max(1, min(rows, PRODUCTS // (case.groups * case.depth * case.filters_of_group)))


def _supports(case: Case) -> bool:
    return case.windows.dilation[0] == 1 or case.windows.kernel[0] == 1  # else a window's rows are not uniformly spaced


def _supports_input(case: Case) -> bool:
    # negative padding would crop dy
    return _supports(case) and case.windows.stride == (1, 1) and min(gradient_case(case).windows.padding) >= 0


def _work(case: Case) -> Work:
    moved_in_all = moved(case) + 2 * case.filters * prod(case.windows.output)  # results go to memory
    columns = case.windows.output[1] if case.filters_of_group > 1 else COLUMNS  # a single row is not packed for
    return Work(case.macs, moved_in_all, columns=columns)


def _weight_work(case: Case) -> Work:
    rows = case.windows.output[0]
    return replace(_work(case), once=2 * rows * case.depth * case.filters)  # one product an output row, then their sum


def _input_work(case: Case) -> Work:
    return _work(gradient_case(case))


FORWARD = Kernel("direct", _supports, _work, _forward_scratch, _pack, _forward)
INPUT = Kernel("direct", _supports_input, _input_work, _input_scratch, _pack_turned, _input_gradient)
WEIGHT = Kernel("direct", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient)
