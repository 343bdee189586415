"""Cutting products into blocks that OpenBLAS multiplies without packing: up to twice as fast for a short side."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.step import Array, Step

SMALL = 1_000_000  # m*n*k of the largest such product
SMALL_OUTPUT = 1200  # elements of a @ b.T up to which it is as fast as a @ b there
DEEP = 128  # the sum's length that it needs for that
NARROW = 64  # columns of a block: narrower ones lose more than packing costs
FEWEST_ROWS = 16  # of a block: the same for rows
SHORT = 8  # the same for rows of a block of a @ b.T


def block(length: int, fewest: int, most: int) -> int:
    """The largest divisor of one side between two bounds; the whole side where there is none."""
    return max((part for part in range(fewest, min(length, most) + 1) if length % part == 0), default=length)


def column_blocks(matrices: Array, width: int) -> Array:
    """(..., k, columns) cut into (..., blocks, k, width), a view."""
    *outer, k, columns = matrices.shape
    *strides, row, item = matrices.strides
    return as_strided(matrices, (*outer, columns // width, k, width), (*strides, width * item, row, item))


def wide_product(matrix: Array, columns: Array, out: Array) -> Step:
    """out = matrix @ columns for stacks of (k, columns), in blocks of columns."""
    width = block(columns.shape[-1], NARROW, SMALL // matrix.size)
    right, result = column_blocks(columns, width), column_blocks(out, width)

    def step() -> None:
        np.matmul(matrix, right, out=result)

    return step


def tall_product(matrices: Array, columns: Array, out: Array) -> Step:
    """out = matrices @ columns for stacks of (m, k) and (k, n), in blocks of rows."""
    m, k = matrices.shape[-2:]
    rows = block(m, FEWEST_ROWS, SMALL // (k * columns.shape[-1]))
    left, result = row_blocks(matrices, rows), row_blocks(out, rows)
    right = columns[..., None, :, :]

    def step() -> None:
        np.matmul(left, right, out=result)

    return step


def gradient_rows(rows: int, columns: int, depth: int) -> int:
    """Rows of a block of a @ b.T (rows, columns) that sums over `depth`: a divisor, all of them where none is fast."""
    return block(rows, SHORT, min(SMALL // depth, SMALL_OUTPUT) // columns) if depth >= DEEP else rows


def row_blocks(matrices: Array, height: int) -> Array:
    """(..., rows, k) cut into (..., blocks, height, k), a view."""
    *outer, rows, k = matrices.shape
    *strides, row, item = matrices.strides
    return as_strided(matrices, (*outer, rows // height, height, k), (*strides, height * row, row, item))
