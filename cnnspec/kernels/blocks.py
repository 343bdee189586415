"""Products cut into blocks that the BLAS multiplies without packing: up to twice as fast where a side is short.

OpenBLAS packs a product: it copies both matrices into the order in which it reads them. With AVX-512 it has kernels for
small products that read matrices where they lie, so products are cut into blocks of that size, which the machine model
states. Without AVX-512 they stay whole: blocks would be packed more often, which takes up to a tenth of the time of a
weights' gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.machine import current
from cnnspec.kernels.step import Array, Buffer, Step

DEEP = 128  # terms of a sum: blocks of a @ b.T with fewer terms gain nothing
NARROW = 64  # columns of a block: narrower ones lose more than packing costs
FEWEST_ROWS = 16  # rows of a block: fewer rows lose more than packing costs
FEWEST_OF_SIDE = 8  # rows and columns of a block of a @ b.T: fewer lose more than packing costs
REUSED = 100_000  # elements of a matrix that stay in a second-level cache of 512 KiB between two columns
SMALL_PRODUCT = 1 << 14  # elements that are set to zero in less than a microsecond


def product(a: Array, b: Array, out: Array) -> Step:
    """out = a @ b for stacks of matrices; a small product uses `a.dot`, which begins 0.7 us earlier.

    `dot` writes zeros to `out` first and copies operands with gaps, so that it loses where products are large.
    """
    if prod(out.shape[:-2]) == 1:
        a, b, out = (array.reshape(array.shape[-2:]) for array in (a, b, out))
    small = out.ndim == 2 and out.size <= SMALL_PRODUCT and out.flags.c_contiguous and a.flags.forc and b.flags.forc
    return partial(a.dot, b, out) if small else partial(np.matmul, a, b, out)


def block(length: int, fewest: int, each: int) -> int:
    """The largest divisor of a side, at least `fewest`, for which the BLAS multiplies a block without packing.

    `each` counts the multiply-accumulates for one row or column of the side. Without such a divisor return `length`.
    """
    return _divisor(length, fewest, current().unpacked // each)


def _divisor(length: int, fewest: int, most: int) -> int:
    """The largest divisor of `length` within the bounds; `length` itself if there is none."""
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
    """out = matrix @ columns for a matrix (m, k) and columns (k, n), n small, in blocks of rows.

    If the BLAS would pack the matrix for few columns, columns are multiplied one at a time: packing takes longer than
    reading the matrix once for each of them.
    """
    if columns.shape[-1] > current().few_columns:
        return tall_product(matrix, columns, out)
    m, k = matrix.shape
    rows = _reused_rows(m, k, columns.shape[-1])
    left, result = row_blocks(matrix, rows)[:, None], row_blocks(out, rows).swapaxes(1, 2)
    return product(left, columns.T[:, :, None], result[..., None])


def transposed_scratch(rows: int, length: int, columns: int) -> dict[str, Buffer]:
    """The scratch of `transposed_product`: the results of blocks of rows, if a matrix (rows, length) is cut."""
    parts = rows // _reused_rows(rows, length, columns)
    return {"parts": Buffer((parts, columns, length), "input")} if parts > 1 else {}


def transposed_product(matrix: Array, columns: Array, out: Array, work: Mapping[str, Array]) -> list[Step]:
    """out = matrix^T @ columns for a matrix (m, k) and columns (m, n), n small.

    Few columns are multiplied one at a time, as in `narrow_product`; the results of blocks of rows are added up.
    """
    if columns.shape[-1] > current().few_columns:
        return [tall_product(matrix.T, columns, out)]
    if "parts" not in work:
        return [product(matrix.T, columns.T[:, :, None], out.T[:, :, None])]
    parts = work["parts"]
    rows = len(matrix) // len(parts)
    left, right = row_blocks(matrix, rows)[:, None].swapaxes(-1, -2), row_blocks(columns, rows).swapaxes(1, 2)
    return [product(left, right[..., None], parts[..., None]), partial(np.add.reduce, parts, 0, None, out.T)]


def _reused_rows(rows: int, length: int, columns: int) -> int:
    """How many rows of a matrix (rows, length) stay in the cache while they are multiplied with column after column."""
    return _divisor(rows, FEWEST_ROWS, REUSED // length) if 1 < columns <= current().few_columns else rows


def tall_product(matrices: Array, columns: Array, out: Array) -> Step:
    """out = matrices @ columns for stacks of (m, k) and (k, n), in blocks of rows."""
    m, k = matrices.shape[-2:]
    rows = block(m, FEWEST_ROWS, k * columns.shape[-1])
    left, result = row_blocks(matrices, rows), row_blocks(out, rows)
    right = columns[..., None, :, :]
    return product(left, right, result)


def gradient_product(left: Array, right: Array, out: Array) -> Step:
    """out = left @ right.T for stacks of (m, k) and (n, k), in blocks of both sides: only small outputs are fast."""
    (m, depth), n = left.shape[-2:], right.shape[-2]
    height, width = gradient_block(m, n, depth)
    rows, columns = row_blocks(left, height)[..., None, :, :], row_blocks(right, width)[..., None, :, :, :]
    turned, result = columns.swapaxes(-1, -2), row_blocks(column_blocks(out, width), height).swapaxes(-4, -3)
    return product(rows, turned, result)


def gradient_block(rows: int, columns: int, depth: int) -> tuple[int, int]:
    """The rows and columns of a block of a @ b.T: divisors with the largest fast product; if equal, the squarest."""
    most_rows = min(current().unpacked // depth, current().unpacked_output) if depth >= DEEP else 0
    heights, widths = ([k for k in range(min(FEWEST_OF_SIDE, x), x + 1) if x % k == 0] for x in (rows, columns))
    blocks = [(height, width) for height in heights for width in widths if height * width <= most_rows]
    return max(blocks, key=lambda block: (prod(block), -sum(block)), default=(rows, columns))


def row_blocks(matrices: Array, height: int) -> Array:
    """(..., rows, k) cut into (..., blocks, height, k), a view."""
    *outer, rows, k = matrices.shape
    *strides, row, item = matrices.strides
    return as_strided(matrices, (*outer, rows // height, height, k), (*strides, height * row, row, item))
