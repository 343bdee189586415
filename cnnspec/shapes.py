"""Shape arithmetic: windows over a map, and the error for windows and shapes that do not fit.

Shapes leave the batch axis out: `(c, h, w)` for maps, `(features,)` for vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

Shape = tuple[int, ...]


class ShapeError(Exception):
    """Shapes that do not fit: the message says what was expected and found, with the field at fault and the cure."""

    def __init__(self, message: str, *, field: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.help = help


def text(shape: Shape) -> str:
    """Return a shape as text: `1x28x28` for (1, 28, 28)."""
    return "x".join(map(str, shape))


def size(shape: Shape) -> int:
    """Return the number of elements of a shape."""
    product = 1
    for length in shape:
        product *= length
    return product


def expect_map(shape: Shape, subject: str) -> tuple[int, int, int]:
    """Return the three axes c, h, w of a map; ShapeError for a vector."""
    if len(shape) != 3:
        raise ShapeError(
            f"expected a map of channels x height x width, got a vector of {text(shape)} features",
            help=f"put {subject} before flatten",
        )
    return shape[0], shape[1], shape[2]


@dataclass(frozen=True)
class Windows:
    """The windows over one h x w map: everything that a convolution or a pooling needs to know.

    Output length along an axis: floor((in + pad - dilation*(k - 1) - 1) / stride) + 1.
    """

    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right

    @property
    def extent(self) -> tuple[int, int]:
        """The rows and columns from the first to the last element of a dilated window."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def output(self) -> tuple[int, int]:
        """The numbers of windows (oh, ow) that fit down and across."""
        top, bottom, left, right = self.padding
        (eh, ew), (sh, sw) = self.extent, self.stride
        return (self.height + top + bottom - eh) // sh + 1, (self.width + left + right - ew) // sw + 1

    @property
    def padded(self) -> tuple[int, int]:
        """The rows and columns of the map including its padding."""
        top, bottom, left, right = self.padding
        return self.height + top + bottom, self.width + left + right

    def part(self, rows: slice) -> tuple[slice, Windows]:
        """Return the rows of the map that some rows of the output read, and the windows over those rows alone."""
        top, _, left, right = self.padding
        first = rows.start * self.stride[0] - top
        end = (rows.stop - 1) * self.stride[0] - top + self.extent[0]
        reads = slice(min(max(first, 0), self.height), min(max(end, 0), self.height))
        padding = (reads.start - first, end - reads.stop, left, right)
        return reads, replace(self, height=reads.stop - reads.start, padding=padding)


def _same_padding(length: int, extent: int, stride: int) -> tuple[int, int]:
    # TensorFlow's and ONNX's SAME_UPPER: out = ceil(in / stride), with the odd row or column at the end.
    total = max((-(-length // stride) - 1) * stride + extent - length, 0)
    return total // 2, total - total // 2


def _half_padding(length: int, extent: int, stride: int) -> tuple[int, int]:
    # PyTorch's: as if the stride were 1, so that the first window has the first element in its middle.
    return (extent - 1) // 2, extent // 2


NAMED_PADDINGS: Mapping[str, Callable[[int, int, int], tuple[int, int]]] = {
    "valid": lambda length, extent, stride: (0, 0),
    "same": _same_padding,
    "same_lower": lambda length, extent, stride: _same_padding(length, extent, stride)[::-1],
    "half": _half_padding,
}

# Paddings of a convolution that are made of the map's own pixels: as wide as `same`.
MARGINS = ("reflect", "replicate", "circular")


def _padding_rounded_up(length: int, extent: int, stride: int, pads: tuple[int, int]) -> tuple[int, int]:
    """Return the padding with room for a last, partly covered window that starts in the map or in the first padding."""
    before, after = pads
    count = -(-(length + before + after - extent) // stride) + 1
    if (count - 1) * stride >= length + before:
        count -= 1
    return before, max(after, (count - 1) * stride + extent - length - before)


@lru_cache(maxsize=4096)  # cached, because the same maps are laid out again and again
def windows(
    shape: Shape,
    subject: str,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str | int | tuple[int, ...],
    dilation: tuple[int, int] = (1, 1),
    ceil: bool = False,
) -> Windows:
    """Return the windows over a (c, h, w) map; ShapeError if not even one fits.

    With `ceil` the output length is rounded up: a last window may hang over the end, as more padding.
    """
    _, height, width = expect_map(shape, subject)
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if isinstance(padding, str):
        named = _same_padding if padding in MARGINS else NAMED_PADDINGS[padding]
        pads = named(height, extent[0], stride[0]) + named(width, extent[1], stride[1])
    elif isinstance(padding, int):
        pads = (padding,) * 4
    else:
        vertical, horizontal = padding[0], padding[-1]
        pads = (
            (vertical, vertical, horizontal, horizontal)
            if len(padding) == 2
            else (padding[0], padding[1], padding[2], padding[3])
        )
    result = Windows(height, width, kernel, stride, dilation, pads)
    if result.padded[0] < extent[0] or result.padded[1] < extent[1]:
        raise ShapeError(
            f"kernel {extent[0]}x{extent[1]} does not fit the {height}x{width} input (padding {_describe(pads)})",
            field="kernel_size",
            help=f"use a kernel_size up to {min(result.padded)}, or padding: same",
        )
    if ceil:
        pads = _padding_rounded_up(height, extent[0], stride[0], pads[:2]) + _padding_rounded_up(
            width, extent[1], stride[1], pads[2:]
        )
        result = Windows(height, width, kernel, stride, dilation, pads)
    return result


def _describe(pads: tuple[int, int, int, int]) -> str:
    return str(pads[0]) if len(set(pads)) == 1 else ", ".join(map(str, pads))
