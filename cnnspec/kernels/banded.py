"""Convolution of groups with few filters, such as depthwise ones: several output rows at a time.

One filter is one row of a matrix, too little for a product. But B output rows of a filter read the same
(B - 1)*stride + kh input rows, and their product with these is that of a banded matrix, with E the expanded columns:

    y = T E,    T[f, i, i*stride + u, v, c] = w[f, c, u, v].

Only kh of its rows are not zero, and still it takes half of the time. dT = dy E^T summed over the bands, of which dw
sums what lies on the band; dx at stride 1 is the same correlation of dy with the weights turned by 180 degrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.blocks import NARROW, block
from cnnspec.kernels.cases import Case, Kernel, Work, grouped_map, nothing_to_prepare, product
from cnnspec.kernels.columns import expand, expanded, moved
from cnnspec.kernels.direct import gradient_case
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step

HIGHEST = 8  # rows of a band
WIDE = 512  # columns of a block: rows that lie 4 KiB apart would compete for the same places in the cache
CACHE = 1 << 17  # elements of the expanded columns that are made at a time


def _rows_of_band(case: Case) -> int:
    return block(case.windows.output[0], 2, HIGHEST)


def _rows_read(case: Case) -> int:
    return (_rows_of_band(case) - 1) * case.windows.stride[0] + case.windows.extent[0]


def _matrix(case: Case) -> tuple[int, int]:
    """The sides of one filter's banded matrix."""
    return _rows_of_band(case), _rows_read(case) * case.windows.kernel[1] * case.channels_of_group


def _groups_of_tile(case: Case, n: int) -> int:
    each = case.windows.padded[0] * case.windows.kernel[1] * case.channels_of_group * case.windows.output[1] * n
    return max(1, min(case.groups, CACHE // each))


def _tiles(case: Case, n: int) -> Iterator[slice]:
    count = _groups_of_tile(case, n)
    for first in range(0, case.groups, count):
        yield slice(first, min(first + count, case.groups))


def _supports(case: Case) -> bool:
    return case.groups > 1 and prod(case.windows.kernel) > 1 and _rows_of_band(case) <= 2 * HIGHEST


def _supports_input(case: Case) -> bool:
    # negative padding would crop dy
    return case.windows.stride == (1, 1) and min(gradient_case(case).windows.padding) >= 0 and _supports(case)


def _columns(case: Case, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
    tile = replace(case, groups=1, channels=case.channels_of_group, filters=case.filters_of_group)
    (shape,) = (buffer.shape for buffer in expanded(tile, n, lifetime).values())
    return {"columns": Buffer((_groups_of_tile(case, n), *shape[1:]), lifetime)}


def _banded(case: Case, matrices: Array) -> Array:
    """The taps (groups, filters, c, kh, kw, B) of matrices (groups, filters, B, K): where each filter lies, a view."""
    c, (kh, kw), dilation = case.channels_of_group, case.windows.kernel, case.windows.dilation[0]
    groups, filters, height, _ = matrices.shape
    group, filter_, row, item = matrices.strides
    read = kw * c * item  # from one row of the map to the next
    strides = (group, filter_, item, dilation * read, c * item, row + case.windows.stride[0] * read)
    return as_strided(matrices, (groups, filters, c, kh, kw, height), strides)


def _by_group(case: Case, weight: Array) -> Array:
    """(filters, c, kh, kw) as (groups, filters, c, kh, kw), a view."""
    return weight.reshape(case.groups, case.filters_of_group, *weight.shape[1:])


def _bands_of_map(case: Case, array: Array) -> Array:
    """A result (oh, filters, ow, n) as (groups, filters, bands, blocks, B, width), a view."""
    (oh, _, ow, n), height = array.shape, _rows_of_band(case)
    width = block(ow * n, NARROW, WIDE)
    row, filter_, _, item = array.strides
    group = case.filters_of_group * filter_
    shape = (case.groups, case.filters_of_group, oh // height, ow * n // width, height, width)
    return as_strided(array, shape, (group, filter_, height * row, width * item, row, item))


def _bands_of_columns(case: Case, columns: Array) -> Array:
    """Expanded columns (groups, rows, kw, c, ow, n) as (groups, 1, bands, blocks, K, width), overlapping views."""
    groups, _, _, _, ow, n = columns.shape
    height, depth = _matrix(case)
    width, item = block(ow * n, NARROW, WIDE), columns.itemsize
    bands, down = case.windows.output[0] // height, height * case.windows.stride[0] * columns.strides[1]
    shape = (groups, 1, bands, ow * n // width, depth, width)
    return as_strided(columns, shape, (columns.strides[0], 0, down, width * item, ow * n * item, item), writeable=False)


def _forward_scratch(case: Case, n: int) -> dict[str, Buffer]:
    matrices = Buffer((case.groups, case.filters_of_group, *_matrix(case)), "prepare")
    return {"matrices": matrices, **_columns(case, n, "forward")}


def _prepare_with(case: Case, weight: Array, matrices: Array) -> list[Step]:
    band, source = _banded(case, matrices), weight[..., None]

    def step() -> None:
        matrices.fill(0)
        np.copyto(band, source)

    return [step]


def _prepare(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    return _prepare_with(case, _by_group(case, weight), buffers["matrices"])


def _forward(case: Case, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    source, matrices, target = grouped_map(x, case.groups), buffers["matrices"], _bands_of_map(case, y)
    steps: list[Step] = []
    for groups in _tiles(case, x.shape[-1]):
        columns = buffers["columns"][: groups.stop - groups.start]
        left = matrices[groups, :, None, None]
        steps += [
            expand(case.windows, source[groups], columns),
            product(left, _bands_of_columns(case, columns), target[groups]),
        ]
    return steps


def _input_scratch(case: Case, n: int) -> dict[str, Buffer]:
    above = gradient_case(case)
    matrices = Buffer((above.groups, above.filters_of_group, *_matrix(above)), "prepare")
    return {"matrices": matrices, **_columns(above, n, "backward")}


def _prepare_turned(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    turned = _by_group(case, weight)[..., ::-1, ::-1].swapaxes(1, 2)
    return _prepare_with(gradient_case(case), turned, buffers["matrices"])


def _input_gradient(case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    return _forward(gradient_case(case), dy, weight, dx, buffers)


def _weight_scratch(case: Case, n: int) -> dict[str, Buffer]:
    height, depth = _matrix(case)
    columns = case.windows.output[1] * n
    each = (_groups_of_tile(case, n), case.filters_of_group)
    pieces = case.windows.output[0] // height * columns // block(columns, NARROW, WIDE)
    return {
        **_columns(case, n, "backward"),
        "products": Buffer((*each, pieces, height, depth), "backward"),
        "total": Buffer((*each, height, depth), "backward"),
    }


def _weight_gradient(case: Case, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    source, bands, target = grouped_map(x, case.groups), _bands_of_map(case, dy), _by_group(case, dweight)
    steps: list[Step] = []
    for groups in _tiles(case, x.shape[-1]):
        columns, products, total = (
            buffers[name][: groups.stop - groups.start] for name in ("columns", "products", "total")
        )
        right = _bands_of_columns(case, columns).swapaxes(-1, -2)
        by_block = products.reshape(*products.shape[:2], *right.shape[2:4], *products.shape[3:])
        steps += [
            expand(case.windows, source[groups], columns),
            product(bands[groups], right, by_block),
            _add_up(products, total),
            _add_up(_banded(case, total), target[groups], axis=-1),
        ]
    return steps


def _add_up(parts: Array, total: Array, axis: int = 2) -> Step:
    def step() -> None:
        np.add.reduce(parts, axis=axis, out=total)

    return step


def _work(case: Case) -> Work:
    _, depth = _matrix(case)
    return Work(case.filters * prod(case.windows.output) * depth, moved(case))


def _input_work(case: Case) -> Work:
    return _work(gradient_case(case))


FORWARD = Kernel("banded", _supports, _work, _forward_scratch, _prepare, _forward)
INPUT = Kernel("banded", _supports_input, _input_work, _input_scratch, _prepare_turned, _input_gradient)
WEIGHT = Kernel("banded", _supports, _work, _weight_scratch, nothing_to_prepare, _weight_gradient)
