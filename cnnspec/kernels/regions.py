"""Windows as taps: for each position inside a window, a strided view of the map and the outputs that it reaches."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspec.shapes import Windows

Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tap:
    """One position inside the windows: `read[o]` of the map (h, c, w, n) falls on `write[o]` of the outputs."""

    position: int  # row-major in the window
    read: Region
    write: Region


def taps(windows: Windows) -> list[Tap]:
    """Every position of the windows in row-major order; what falls on padding is left out of both regions."""
    found: list[Tap] = []
    (kh, kw), (oh, ow) = windows.kernel, windows.output
    every = slice(None)
    for i in range(kh):
        rows = _reach(i * windows.dilation[0] - windows.padding[0], windows.stride[0], windows.height, oh)
        for j in range(kw):
            columns = _reach(j * windows.dilation[1] - windows.padding[2], windows.stride[1], windows.width, ow)
            if rows and columns:
                found.append(Tap(i * kw + j, (rows[0], every, columns[0]), (rows[1], every, columns[1])))
    return found


def _reach(offset: int, stride: int, length: int, outputs: int) -> tuple[slice, slice] | None:
    # Outputs o with 0 <= o * stride + offset < length.
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (length - 1 - offset) // stride)
    if last < first:
        return None
    start = first * stride + offset
    return slice(start, last * stride + offset + 1, stride), slice(first, last + 1)


def overlap(windows: Windows) -> bool:
    """Whether some element of the map lies in two windows."""
    return any(extent > stride for extent, stride in zip(windows.extent, windows.stride, strict=True))
