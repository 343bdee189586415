"""Learned embeddings of positions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated

import numpy as np

from cnnspec.kernels.elementwise import copy, sum_over
from cnnspec.layers.base import Backward, InitializerField, Layer, Operands, Parameter, Steps
from cnnspec.registry import register
from cnnspec.shapes import Shape


@register("positions")
class Positions(Layer):
    """y = x + weight, one learned number for every channel of every pixel, or every feature of a vector.

    The layers that follow can tell pixels apart, which attention by itself cannot. weight has the shape of x.
    Source: Dosovitskiy et al., "An image is worth 16x16 words" (2020).
    """

    weight_init: Annotated[InitializerField, "how the numbers start"] = MappingProxyType(
        {"type": "normal", "std": 0.02}
    )

    in_place = True
    passes_on = frozenset({"dy"})

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c, h, w) or (features,)."""
        return {"weight": Parameter(inputs[0], self.weight_init)}

    def forward(self, o: Operands) -> Steps:
        """Bind y = x + the positions, the same for every image."""
        weight = o.params["weight"]
        table = weight.transpose(1, 0, 2) if weight.ndim == 3 else weight
        return [partial(np.add, o.x, table[..., None], o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy, and dweight = the sum of dy over the images."""
        dy = o.dy.transpose(1, 0, 2, 3) if o.dy.ndim == 4 else o.dy
        return Backward([] if o.dx is None else [copy(o.dy, o.dx)], [sum_over(-1, dy, o.grads["weight"])])
