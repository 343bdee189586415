"""The convolution problem: what a kernel has to know of a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cnnspec.shapes import Windows


@dataclass(frozen=True)
class Problem:
    """A convolution problem: how the windows lie over the map, and how channels and filters are split into groups."""

    windows: Windows
    channels: int
    filters: int
    groups: int

    @property
    def channels_of_group(self) -> int:
        """The number of input channels that one filter sees."""
        return self.channels // self.groups

    @property
    def filters_of_group(self) -> int:
        """The number of filters that see the same channels."""
        return self.filters // self.groups

    @property
    def depth(self) -> int:
        """The number of products summed for one output: channels of a group times kh*kw."""
        return self.channels_of_group * prod(self.windows.kernel)
