"""Cutting products into blocks that OpenBLAS multiplies without packing: up to twice as fast for a short side.

It can do so with AVX-512 alone. Elsewhere products stay whole: blocks would only be packed more often, which takes up
to a tenth of the time of a weights' gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.machine import current
from cnnspec.kernels.step import Array, Buffer, Step

DEEP = 128  # the sum's length that it needs for that
NARROW = 64  # columns of a block: narrower ones lose more than packing costs
FEWEST_ROWS = 16  # of a block: the same for rows
SHORT = 8  # the same for both sides of a block of a @ b.T
REUSED = 100_000  # elements of a matrix that stay in the second-level cache from one column to the next
SMALL_PRODUCT = 1 << 14  # elements that are set to zero in less than a microsecond


def product(a: Array, b: Array, out: Array) -> Step:
    """out = a @ b, stacked; a small one by `a.dot`, which begins 0.7 us earlier.

    It writes zeros to `out` first, and copies what has gaps, so that it loses where products are large.
    """
    if prod(out.shape[:-2]) == 1:
        a, b, out = (array.reshape(array.shape[-2:]) for array in (a, b, out))
    small = out.ndim == 2 and out.size <= SMALL_PRODUCT and out.flags.c_contiguous and a.flags.forc and b.flags.forc
    return partial(a.dot, b, out) if small else partial(np.matmul, a, b, out)


def block(length: int, fewest: int, each: int) -> int:
    """The largest divisor of a side, from `fewest` on, that makes a small product; the whole side where none does.

    `each` are the multiply-accumulates for one row or column of it.
    """
    return _divisor(length, fewest, current().unpacked // each)


def _divisor(length: int, fewest: int, most: int) -> int:
    """The largest divisor of a side within bounds, the whole side where there is none."""
    return max((part for part in range(fewest, min(length, most) + 1) if length % part == 0), default=length)


def column_blocks(matrices: Array, width: int) -> Array:
    """(..., k, columns) cut into (..., blocks, k, width), a view."""
    *outer, k, columns = matrices.shape
    *strides, row, item = matrices.strides
    return as_strided(matrices, (*outer, columns // width, k, width), (*strides, width * item, row, item))


def wide_product(matrix: Array, columns: Array, out: Array) -> Step:
    """out = matrix @ columns for stacks of (k, columns), in blocks of columns."""
    width = block(columns.shape[-1], NARROW, matrix.size)
    right, result = column_blocks(columns, width), column_blocks(out, width)
    return product(matrix, right, result)


def narrow_product(matrix: Array, columns: Array, out: Array) -> Step:
    """out = matrix @ columns for a matrix (m, k) and (k, n), n small, in blocks of rows: few columns one by one."""
    if columns.shape[-1] > current().few_columns:
        return tall_product(matrix, columns, out)
    m, k = matrix.shape
    rows = _reused_rows(m, k, columns.shape[-1])
    left, result = row_blocks(matrix, rows)[:, None], row_blocks(out, rows).swapaxes(1, 2)
    return product(left, columns.T[:, :, None], result[..., None])


def turned_scratch(rows: int, length: int, columns: int) -> dict[str, Buffer]:
    """What `turned_product` works with: the results of blocks of rows of a matrix (rows, length), where it is cut."""
    parts = rows // _reused_rows(rows, length, columns)
    return {"parts": Buffer((parts, columns, length), "input")} if parts > 1 else {}


def turned_product(matrix: Array, columns: Array, out: Array, work: Mapping[str, Array]) -> list[Step]:
    """out = matrix^T @ columns for a matrix (m, k) and (m, n), n small: few one by one, in blocks of rows, added up."""
    if columns.shape[-1] > current().few_columns:
        return [tall_product(matrix.T, columns, out)]
    if "parts" not in work:
        return [product(matrix.T, columns.T[:, :, None], out.T[:, :, None])]
    parts = work["parts"]
    rows = len(matrix) // len(parts)
    left, right = row_blocks(matrix, rows)[:, None].swapaxes(-1, -2), row_blocks(columns, rows).swapaxes(1, 2)
    return [product(left, right[..., None], parts[..., None]), partial(np.add.reduce, parts, 0, None, out.T)]


def _reused_rows(rows: int, length: int, columns: int) -> int:
    """Rows of a matrix (rows, length) that are multiplied with all of some columns before the next rows are read."""
    return _divisor(rows, FEWEST_ROWS, REUSED // length) if 1 < columns <= current().few_columns else rows


def tall_product(matrices: Array, columns: Array, out: Array) -> Step:
    """out = matrices @ columns for stacks of (m, k) and (k, n), in blocks of rows."""
    m, k = matrices.shape[-2:]
    rows = block(m, FEWEST_ROWS, k * columns.shape[-1])
    left, result = row_blocks(matrices, rows), row_blocks(out, rows)
    right = columns[..., None, :, :]
    return product(left, right, result)


def gradient_product(left: Array, right: Array, out: Array) -> Step:
    """out = left @ right.T for stacks of (m, k) and (n, k), in blocks of both sides: small outputs are fast alone."""
    (m, depth), n = left.shape[-2:], right.shape[-2]
    height, width = gradient_block(m, n, depth)
    rows, columns = row_blocks(left, height)[..., None, :, :], row_blocks(right, width)[..., None, :, :, :]
    turned, result = columns.swapaxes(-1, -2), row_blocks(column_blocks(out, width), height).swapaxes(-4, -3)
    return product(rows, turned, result)


def gradient_block(rows: int, columns: int, depth: int) -> tuple[int, int]:
    """Rows and columns of a block of a @ b.T: divisors with the largest fast product, the squarest of equals."""
    most = min(current().unpacked // depth, current().unpacked_output) if depth >= DEEP else 0
    heights, widths = ([k for k in range(min(SHORT, x), x + 1) if x % k == 0] for x in (rows, columns))
    blocks = [(height, width) for height in heights for width in widths if height * width <= most]
    return max(blocks, key=lambda block: (prod(block), -sum(block)), default=(rows, columns))


def row_blocks(matrices: Array, height: int) -> Array:
    """(..., rows, k) cut into (..., blocks, height, k), a view."""
    *outer, rows, k = matrices.shape
    *strides, row, item = matrices.strides
    return as_strided(matrices, (*outer, rows // height, height, k), (*strides, height * row, row, item))
