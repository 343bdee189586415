"""Convolution over the taps of a map: three matrix products, one for each direction.

With T the taps (groups, oh, K, ow*n), K = kh*kw*c, and W the weights as (groups, filters, K):
y = W T, dW = sum over rows of T dy^T, and dx = the full correlation of dy with the flipped weights.
"""

from __future__ import annotations

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.kernels.unfold import inside
from cnnspec.shapes import Windows


def grouped_rows(array: Array, groups: int) -> Array:
    """A map (h, c, w, n) as (groups, h, c, w*n), a view."""
    h, c, w, n = array.shape
    return array.reshape(h, groups, c // groups, w * n).transpose(1, 0, 2, 3)


def pack_weight(weight: Array, packed: Array) -> Step:
    """(filters, c, kh, kw) into (groups, filters, kh*kw*c), the order of the taps."""
    filters, c, kh, kw = weight.shape
    groups = packed.shape[0]
    target = packed.reshape(groups, filters // groups, kh, kw, c)
    source = weight.reshape(groups, filters // groups, c, kh, kw).transpose(0, 1, 3, 4, 2)

    def step() -> None:
        np.copyto(target, source)

    return step


def pack_flipped_weight(weight: Array, packed: Array) -> Step:
    """(filters, c, kh, kw) into (groups, c, kh*kw*filters), turned by 180 degrees: the weights of dx."""
    filters, c, kh, kw = weight.shape
    groups = packed.shape[0]
    target = packed.reshape(groups, c, kh, kw, filters // groups)
    source = weight.reshape(groups, filters // groups, c, kh, kw)[..., ::-1, ::-1].transpose(0, 2, 3, 4, 1)

    def step() -> None:
        np.copyto(target, source)

    return step


def correlate(taps: Array, packed: Array, y: Array) -> Step:
    """y = W T: every output row of every group is one product of (filters, K) and (K, ow*n)."""
    groups = packed.shape[0]
    weight, rows = packed[:, None], grouped_rows(y, groups)
    if groups == 1:
        weight, taps, rows = packed[0], taps[0], rows[0]

    def step() -> None:
        np.matmul(weight, taps, out=rows)

    return step


def weight_gradient(taps: Array, dy: Array, dweight: Array, products: Array, total: Array) -> Step:
    """dW = sum over rows of T dy^T, with the small operand last, where OpenBLAS is fastest.

    `products` is scratch (groups, oh, K, filters), `total` (groups, K, filters).
    """
    groups = taps.shape[0]
    transposed = grouped_rows(dy, groups).transpose(0, 1, 3, 2)  # (groups, oh, ow*n, filters)
    filters, c, kh, kw = dweight.shape
    target = dweight.reshape(groups, filters // groups, c, kh, kw)
    source = total.reshape(groups, kh, kw, c, filters // groups).transpose(0, 4, 3, 1, 2)

    def step() -> None:
        np.matmul(taps, transposed, out=products)
        np.add.reduce(products, axis=1, out=total)
        np.copyto(target, source)

    return step


def scatter_gradient(packed: Array, dy: Array, dx: Array, products: Array, windows: Windows) -> Step:
    """dx for strides above 1: W^T dy gives every tap its gradient, and each tap adds a strided slice of dx.

    `products` is scratch (groups, oh, K, ow*n).
    """
    groups, _, depth = packed.shape
    h, c, w, n = dx.shape
    (kh, kw), (oh, ow) = windows.kernel, windows.output
    transposed, rows = packed.transpose(0, 2, 1)[:, None], grouped_rows(dy, groups)
    by_tap = products.reshape(groups, oh, kh, kw, depth // (kh * kw), ow, n)
    target = dx.reshape(h, groups, c // groups, w, n).transpose(1, 0, 2, 3, 4)
    moves: list[tuple[Array, Array]] = []
    for ky in range(kh):
        top, bottom = inside(windows, 0, ky)
        for kx in range(kw):
            left, right = inside(windows, 1, kx)
            if bottom > top and right > left:
                down = tap_slice(windows, 0, ky, top, bottom)
                across = tap_slice(windows, 1, kx, left, right)
                moves.append((target[:, down, :, across], by_tap[:, top:bottom, ky, kx, :, left:right]))

    def step() -> None:
        np.matmul(transposed, rows, out=products)
        dx.fill(0)
        for place, gradient in moves:
            np.add(place, gradient, out=place)

    return step


def tap_slice(windows: Windows, axis: int, tap: int, first: int, last: int) -> slice:
    """The input positions that a tap reads for output positions [first, last)."""
    stride = windows.stride[axis]
    start = first * stride + tap * windows.dilation[axis] - windows.padding[2 * axis]
    return slice(start, start + (last - first - 1) * stride + 1, stride)


def gradient_windows(windows: Windows) -> Windows | None:
    """The windows over dy whose correlation with the flipped weights is dx; None where strides or padding forbid it."""
    (eh, ew), (top, bottom, left, right) = windows.extent, windows.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    if windows.stride != (1, 1) or min(padding) < 0:
        return None
    oh, ow = windows.output
    return Windows(oh, ow, windows.kernel, (1, 1), windows.dilation, padding)
