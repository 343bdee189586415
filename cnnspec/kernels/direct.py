"""Direct convolution on windows that are views: no patches.

The kw column taps of a map are copied side by side once, E (groups, rows, kw, c, ow*n), padding included. Row r of the
output then reads kh*kw*c consecutive, uniformly spaced rows of E: a matrix without a copy, overlapping its neighbours.
With T these windows (groups, oh, K, ow*n): y = W T, dW = sum over rows of T dy^T, and dx at stride 1 is the same
correlation of dy with the weights turned by 180 degrees. A 1x1 kernel at stride 1 reads the map itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.blocks import DEEP, NARROW, SMALL, SMALL_OUTPUT, block, column_blocks
from cnnspec.kernels.case import (
    Case,
    Kernel,
    Work,
    add_rows,
    grouped_map,
    grouped_rows,
    inside,
    nothing_to_prepare,
    product,
    read_by,
)
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.shapes import Windows

PRODUCTS = 1 << 20  # elements of the weights' gradient before rows are added up
SHORT = 8  # the same for rows of a block of the weights' gradient


def _reads_map(windows: Windows) -> bool:
    return windows.kernel == (1, 1) and windows.stride == (1, 1) and not any(windows.padding)


def _expanded(case: Case, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
    windows = case.windows
    if _reads_map(windows):
        return {}
    shape = (case.groups, windows.padded[0], windows.kernel[1], case.channels_of_group, windows.output[1], n)
    return {"columns": Buffer(shape, lifetime)}


def _windows(case: Case, x: Array, buffers: Mapping[str, Array]) -> tuple[Array, list[Step]]:
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
    return view, [_expand(case.windows, grouped_map(x, case.groups), columns)]


def _expand(windows: Windows, source: Array, columns: Array) -> Step:
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


def _correlate(windows: Array, packed: Array, y: Array) -> Step:
    """y = W T, one product for each block of columns of each output row of each group."""
    groups, m, depth = packed.shape
    rows = grouped_rows(y, groups)
    width = block(rows.shape[-1], NARROW, SMALL // (m * depth))
    weight, right, out = packed[:, None, None], column_blocks(windows, width), column_blocks(rows, width)

    return product(weight, right, out)


def _forward_scratch(case: Case, n: int) -> dict[str, Buffer]:
    packed = Buffer((case.groups, case.filters_of_group, case.depth), "prepare")
    return {"packed": packed, **_expanded(case, n, "forward")}


def _pack(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """(filters, c, kh, kw) into (groups, filters, kh*kw*c), the order of the windows."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(case.groups, filters // case.groups, kh, kw, c)
    source = weight.reshape(case.groups, filters // case.groups, c, kh, kw).transpose(0, 1, 3, 4, 2)

    def step() -> None:
        np.copyto(target, source)

    return [step]


def _forward(case: Case, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    windows, fill = _windows(case, x, buffers)
    return [*fill, _correlate(windows, buffers["packed"], y)]


def _gradient_case(case: Case) -> Case:
    """The convolution of dy that gives dx at stride 1: padding e - 1 - p, channels and filters exchanged."""
    windows = case.windows
    (eh, ew), (top, bottom, left, right) = windows.extent, windows.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    over = Windows(*windows.output, windows.kernel, (1, 1), windows.dilation, padding)
    return Case(over, case.filters, case.channels, case.groups)


def _input_scratch(case: Case, n: int) -> dict[str, Buffer]:
    above = _gradient_case(case)
    packed = Buffer((above.groups, above.filters_of_group, above.depth), "prepare")
    return {"packed": packed, **_expanded(above, n, "backward")}


def _pack_turned(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """(filters, c, kh, kw) into (groups, c, kh*kw*filters), turned by 180 degrees."""
    filters, c, kh, kw = weight.shape
    target = buffers["packed"].reshape(case.groups, c, kh, kw, filters // case.groups)
    source = weight.reshape(case.groups, filters // case.groups, c, kh, kw)[..., ::-1, ::-1].transpose(0, 2, 3, 4, 1)

    def step() -> None:
        np.copyto(target, source)

    return [step]


def _input_gradient(case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    return _forward(_gradient_case(case), dy, weight, dx, buffers)


def _weight_scratch(case: Case, n: int) -> dict[str, Buffer]:
    matrix = (case.depth, case.filters_of_group)
    return {
        **_expanded(case, n, "backward"),
        "products": Buffer((case.groups, _rows_of_products(case), *matrix), "backward"),
        "total": Buffer((case.groups, *matrix), "backward"),
        "partial": Buffer((case.groups, *matrix), "backward"),
    }


def _weight_gradient(case: Case, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """dW with the small operand last, where OpenBLAS is fastest: products for each output row, then their sum."""
    windows, fill = _windows(case, x, buffers)
    transposed = grouped_rows(dy, case.groups).transpose(0, 1, 3, 2)[:, :, None]  # (groups, oh, 1, ow*n, filters)
    products, total, partial = buffers["products"], buffers["total"], buffers["partial"]
    filters, c, kh, kw = dweight.shape
    short, columns = _rows_of_block(case, windows), windows.shape[-1]
    left = windows.reshape(case.groups, -1, case.depth // short, short, columns)
    out = products.reshape(case.groups, -1, case.depth // short, short, case.filters_of_group)
    target = dweight.reshape(case.groups, filters // case.groups, c, kh, kw)
    summed = total.reshape(case.groups, kh, kw, c, filters // case.groups).transpose(0, 4, 3, 1, 2)

    def turn() -> None:
        np.copyto(target, summed)

    steps, oh, count = [*fill], windows.shape[1], products.shape[1]
    for start in range(0, oh, count):
        rows, used = slice(start, min(start + count, oh)), min(count, oh - start)
        steps += [
            product(left[:, rows], transposed[:, rows], out[:, :used]),
            add_rows(products[:, :used], total, partial, first=start == 0),
        ]
    return [*steps, turn]


def _rows_of_products(case: Case) -> int:
    """Output rows whose products are held at a time: all of them, unless the weights are large."""
    return max(1, min(case.windows.output[0], PRODUCTS // (case.groups * case.depth * case.filters_of_group)))


def _rows_of_block(case: Case, windows: Array) -> int:
    filters, columns = case.filters_of_group, windows.shape[-1]
    most = min(SMALL // columns, SMALL_OUTPUT) // filters
    return block(case.depth, SHORT, most) if columns >= DEEP else case.depth


def _supports(case: Case) -> bool:
    return case.windows.dilation[0] == 1 or case.windows.kernel[0] == 1  # else a window's rows are not uniformly spaced


def _supports_input(case: Case) -> bool:
    # negative padding would crop dy
    return _supports(case) and case.windows.stride == (1, 1) and min(_gradient_case(case).windows.padding) >= 0


def _work(case: Case) -> Work:
    return Work(case.macs, sum(prod(buffer.shape) for buffer in _expanded(case, 1, "forward").values()))


def _input_work(case: Case) -> Work:
    return _work(_gradient_case(case))


FORWARD = Kernel("direct", _supports, _work, _forward_scratch, _pack, _forward)
INPUT = Kernel("direct", _supports_input, _input_work, _input_scratch, _pack_turned, _input_gradient)
WEIGHT = Kernel("direct", _supports, _work, _weight_scratch, nothing_to_prepare, _weight_gradient)
