"""Windows as taps: for each position inside a window, a strided view of the map and the outputs that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cnnspec.shapes import Windows

Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tap:
    """One position inside the windows: element `read[o]` of the map (h, c, w, n) belongs to output `write[o]`."""

    position: int  # the number of the position in the window, row-major
    read: Region
    write: Region


def taps(windows: Windows) -> list[Tap]:
    """Every position of the windows in row-major order; elements in the padding are left out of both regions."""
    every, columns = slice(None), list(axis_taps(windows, 1))
    return [
        Tap(i * windows.kernel[1] + j, (down, every, across), (upper, every, left))
        for i, down, upper in axis_taps(windows, 0)
        for j, across, left in columns
    ]


def axis_taps(windows: Windows, axis: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield every tap of one axis that reaches the map: its number, the places it reads, and their outputs."""
    stride, length, outputs = windows.stride[axis], (windows.height, windows.width)[axis], windows.output[axis]
    for tap in range(windows.kernel[axis]):
        # Outputs o with 0 <= o * stride + offset < length.
        offset = tap * windows.dilation[axis] - windows.padding[2 * axis]
        first = max(0, -(offset // stride))
        last = min(outputs - 1, (length - 1 - offset) // stride)
        if first <= last:
            yield tap, slice(first * stride + offset, last * stride + offset + 1, stride), slice(first, last + 1)


def windows_overlap(windows: Windows) -> bool:
    """Whether an element of the map may lie in two windows."""
    return any(extent > stride for extent, stride in zip(windows.extent, windows.stride, strict=True))


def outputs_of_tap(windows: Windows, axis: int, tap: int) -> tuple[int, int]:
    """The output positions [first, last) along an axis for which a tap lies in the map and not in its padding."""
    length = (windows.height, windows.width)[axis]
    before, stride = windows.padding[2 * axis], windows.stride[axis]
    shift = before - tap * windows.dilation[axis]
    first = max(0, -(-shift // stride))
    last = min(windows.output[axis], (length - 1 + shift) // stride + 1)
    return first, max(last, first)


def inputs_of_tap(windows: Windows, axis: int, tap: int, first: int, last: int) -> slice:
    """The input positions that a tap reads for output positions [first, last)."""
    stride = windows.stride[axis]
    start = first * stride + tap * windows.dilation[axis] - windows.padding[2 * axis]
    return slice(start, start + (last - first - 1) * stride + 1, stride)
