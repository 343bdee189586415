"""A linear map of rows and one of columns as two products: y[i,j] = sum_{r,s} down[i,r] across[j,s] x[r,s].

Resampling and pooling by bins of any size are of this kind; the gradient is the same with both matrices transposed.
"""

from __future__ import annotations

from cnnspec.kernels.blocks import product, wide_product
from cnnspec.kernels.step import Array, Step


def separable(down: Array, across: Array, x: Array, middle: Array, y: Array) -> list[Step]:
    """Steps from x (h, c, w, n) to y (oh, c, ow, n), with down (oh, h) and across (ow, w); middle is (oh, c, w, n)."""
    rows = wide_product(down, x.reshape(x.shape[0], -1), middle.reshape(middle.shape[0], -1))
    return [rows, product(across, middle, y)]


def separable_transposed(down: Array, across: Array, dy: Array, middle: Array, dx: Array) -> list[Step]:
    """Steps of the gradient of `separable`, from dy (oh, c, ow, n) to dx (h, c, w, n)."""
    rows = wide_product(down.T, middle.reshape(middle.shape[0], -1), dx.reshape(dx.shape[0], -1))
    return [product(across.T, dy, middle), rows]
