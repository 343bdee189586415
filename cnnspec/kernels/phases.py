"""Columns by phase: with a stride of s, columns p, p + s, p + 2s, ... of a map are a plane without gaps.

With a stride along the columns, runs of memory are as short as the batch. Once a map is split into phases, every tap of
a window reads one phase from some column on, without gaps. The input's gradient is written to phases, as each column
tap reaches one of them, and the phases are merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnspec.kernels.taps import outputs_of_tap
from cnnspec.shapes import Windows


@dataclass(frozen=True)
class Reach:
    """The reach of a column tap: positions [first, last) of the written array take those of the read one from `start`.

    Forward, a phase of the map is read; for the input's gradient, one is written.
    """

    tap: int
    phase: int
    first: int
    last: int
    start: int

    @property
    def read(self) -> slice:
        """The positions that are read."""
        return slice(self.start, self.start + self.last - self.first)

    @property
    def write(self) -> slice:
        """The positions that are written."""
        return slice(self.first, self.last)


def forward_reaches(windows: Windows) -> list[Reach]:
    """A `Reach` for each column tap of the forward pass, which reads a phase of the map and writes outputs."""
    reaches = []
    for tap in range(windows.kernel[1]):
        first, last = outputs_of_tap(windows, 1, tap)
        start, phase = divmod(first * windows.stride[1] + _offset(windows, tap), windows.stride[1])
        reaches.append(Reach(tap, phase, first, last, start))
    return reaches


def gradient_reaches(windows: Windows) -> list[Reach]:
    """A `Reach` for each column tap of the input's gradient, which reads dy and writes a phase of dx."""
    reaches = []
    for tap in range(windows.kernel[1]):
        shift, phase = divmod(_offset(windows, tap), windows.stride[1])
        first = max(0, shift)
        last = max(first, min(width_of_phase(windows, phase), windows.output[1] + shift))
        reaches.append(Reach(tap, phase, first, last, first - shift))
    return reaches


def width_of_phase(windows: Windows, phase: int) -> int:
    """The columns of one phase of the map."""
    return len(range(phase, windows.width, windows.stride[1]))


def _offset(windows: Windows, tap: int) -> int:
    return tap * windows.dilation[1] - windows.padding[2]
