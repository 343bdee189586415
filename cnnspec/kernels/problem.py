"""What a convolution is to the kernels that compute it."""

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
        """Input channels that one filter sees."""
        return self.channels // self.groups

    @property
    def filters_of_group(self) -> int:
        """Filters that see the same channels."""
        return self.filters // self.groups

    @property
    def depth(self) -> int:
        """Products that are summed for one output: channels of a group times kh*kw."""
        return self.channels_of_group * prod(self.windows.kernel)
