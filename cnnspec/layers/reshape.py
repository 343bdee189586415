"""Layers that move elements without changing them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.layers.base import Backward, Layer, Operands, Program
from cnnspec.registry import register
from cnnspec.shapes import Shape, size


@register("flatten")
@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """A map as a vector of c*h*w features, in the order c, h, w."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """(c, h, w) -> (c*h*w,)."""
        return (size(inputs[0]),)

    def forward(self, o: Operands) -> Program:
        """One copy."""
        y, x = _channels_first(o.y, o.x), o.x

        def step() -> None:
            np.copyto(y, x)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """The copy back."""
        if o.dx is None:
            return Backward()
        dx = o.dx
        dy = _channels_first(o.dy, dx)

        def step() -> None:
            np.copyto(dx, dy)

        return Backward(input=[step])


def _channels_first(features: Array, like: Array) -> Array:
    # (c*h*w, n) seen with the axes of a map, (h, c, w, n)
    if like.ndim == 2:
        return features
    h, c, w, n = like.shape
    return features.reshape(c, h, w, n).transpose(1, 0, 2, 3)
