"""The windows of a map as matrices, so that a convolution becomes stacked matrix multiplications.

A map is (h, c, w, n). Its taps are (groups, oh, kh*kw*c, ow*n): for each group and each row of the output, one matrix
whose row (ky, kx, channel) holds what that tap reads for every output column and image. Three ways lead there:

- a 1x1 kernel at stride 1 reads the map itself: no copy;
- else the kw column taps are copied side by side once, (groups, rows, kw, c, ow, n), and the windows of output rows
  overlap as views: row r of the output is kh*kw*c consecutive, uniformly spaced rows of that array;
- with dilated rows the rows of a window are not uniformly spaced, so all kh*kw taps are copied.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.step import Array, Step
from cnnspec.shapes import Shape, Windows


def taps_shape(windows: Windows, channels: int, groups: int, n: int) -> Shape | None:
    """The shape of the copy that `bind_taps` needs; None where the map itself serves."""
    (kh, kw), (oh, ow) = windows.kernel, windows.output
    if _is_pointwise(windows):
        return None
    if windows.dilation[0] > 1:
        return (groups, oh, kh, kw, channels // groups, ow, n)
    return (groups, windows.padded[0], kw, channels // groups, ow, n)


def bind_taps(x: Array, windows: Windows, groups: int, copy: Array | None) -> tuple[Array, list[Step]]:
    """The taps (groups, oh, kh*kw*c, ow*n) of a map, and the steps that fill them from the map."""
    h, c, w, n = x.shape
    (kh, kw), (oh, ow) = windows.kernel, windows.output
    grouped = x.reshape(h, groups, c // groups, w, n).transpose(1, 0, 2, 3, 4)  # (groups, h, c, w, n)
    if copy is None:
        return x.reshape(h, groups, c // groups, w * n).transpose(1, 0, 2, 3), []
    if windows.dilation[0] > 1:
        fill = [step for ky in range(kh) for step in _fill_rows_of_tap(grouped, windows, copy[:, :, ky], ky)]
        return copy.reshape(groups, oh, kh * kw * (c // groups), ow * n), fill
    stride, item = windows.stride[0], copy.itemsize
    view = as_strided(
        copy,
        (groups, oh, kh * kw * (c // groups), ow * n),
        (copy.strides[0], stride * copy.strides[1], ow * n * item, item),
        writeable=False,
    )
    top = windows.padding[0]
    return view, _fill_columns(grouped, windows, copy, slice(top, top + h), slice(0, h))


def _is_pointwise(windows: Windows) -> bool:
    return windows.kernel == (1, 1) and windows.stride == (1, 1) and not any(windows.padding)


def _fill_rows_of_tap(grouped: Array, windows: Windows, copy: Array, ky: int) -> list[Step]:
    first, last = inside(windows, 0, ky)
    start = first * windows.stride[0] + ky * windows.dilation[0] - windows.padding[0]
    source = slice(start, start + max((last - first - 1) * windows.stride[0] + 1, 0), windows.stride[0])
    return _fill_columns(grouped, windows, copy, slice(first, last), source)


def _fill_columns(grouped: Array, windows: Windows, copy: Array, rows: slice, source_rows: slice) -> list[Step]:
    """Copy every column tap beside its neighbour; what lies in the padding becomes zero, at every step anew."""
    ow, (_, stride), (_, dilation), left = windows.output[1], windows.stride, windows.dilation, windows.padding[2]
    moves: list[tuple[Array, Array]] = []
    zeros: list[Array] = [copy[:, : rows.start], copy[:, max(rows.stop, rows.start) :]]
    for kx in range(windows.kernel[1]):
        first, last = inside(windows, 1, kx)
        target = copy[:, rows, kx]
        zeros += [target[:, :, :, :first], target[:, :, :, max(last, first) :]]
        if last > first and rows.stop > rows.start:
            start = first * stride + kx * dilation - left
            columns = slice(start, start + (last - first - 1) * stride + 1, stride)
            moves.append((target[:, :, :, first:last], grouped[:, source_rows, :, columns]))
    zeros = [zero for zero in zeros if zero.size and ow]

    def step() -> None:
        for zero in zeros:
            zero.fill(0)
        for target, source in moves:
            np.copyto(target, source)

    return [step]


def inside(windows: Windows, axis: int, tap: int) -> tuple[int, int]:
    """The output positions [first, last) along an axis for which a tap lies in the map and not in its padding."""
    length = (windows.height, windows.width)[axis]
    before, stride = windows.padding[2 * axis], windows.stride[axis]
    shift = before - tap * windows.dilation[axis]
    first = max(0, -(-shift // stride))
    last = min(windows.output[axis], (length - 1 + shift) // stride + 1)
    return first, max(last, first)
