"""The layer that takes one of several inputs of a network out of a plan's only input."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np

from cnnspec.fields import NonNegativeInt, PositiveInt
from cnnspec.kernels.step import Array
from cnnspec.layers.selection import Selection
from cnnspec.shapes import Shape, size


class Part(Selection):
    """A stretch of a vector in the shape of one input: y = x[start : start + c h w], in the order c, h, w.

    A plan has one entry, in which all inputs lie behind one another. Graphs of specs with `inputs` begin with such
    layers; specs do not name them.
    """

    type_name: ClassVar[str] = "input"

    start: Annotated[NonNegativeInt, "the first element"]
    shape: Annotated[tuple[PositiveInt, ...], "channels, height, width; or features alone"]

    @property
    def stop(self) -> int:
        """One past the last element."""
        return self.start + size(self.shape)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the declared shape."""
        return self.shape

    def _part(self, array: Array) -> Array:
        stretch: Any = array[self.start : self.stop]
        if len(self.shape) == 1:
            return np.asarray(stretch)
        return np.asarray(stretch.reshape(*self.shape, -1).transpose(1, 0, 2, 3))
