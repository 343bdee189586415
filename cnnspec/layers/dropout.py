"""Dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from cnnspec.fields import Fraction
from cnnspec.kernels.step import Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Program, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, expect_map


@register("dropout")
class Dropout(Layer):
    """Sets a share of the numbers to 0 in training: y = x m / (1 - rate), m = 1 with probability 1 - rate.

    At inference y = x. Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting" (2014).
    """

    rate: Annotated[Fraction, "share of numbers that are dropped"] = 0.5

    in_place = True
    train_only = True

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Uniform numbers, and which of x were kept."""
        shape = batch_shape(inputs[0], n)
        return {} if mode == "infer" else {"uniform": Buffer(shape), "keeps": Buffer(shape, "kept", bool)}

    def forward(self, o: Operands) -> Program:
        """Draw, mask, scale."""
        x, y = o.x, o.y
        if o.mode == "infer":

            def copy() -> None:
                np.copyto(y, x)

            return [copy]
        assert o.random is not None
        random, uniform, keeps, rate = o.random, o.buffers["uniform"], o.buffers["keeps"], self.rate
        scale = np.asarray(1 / (1 - rate), y.dtype)

        def step() -> None:
            random.uniform(uniform)
            np.greater_equal(uniform, rate, out=keeps)
            np.multiply(x, keeps, out=y)
            np.multiply(y, scale, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """dx = dy m / (1 - rate)."""
        dy, dx, keeps = o.dy, o.dx, o.buffers["keeps"]
        if dx is None:
            return Backward()
        scale = np.asarray(1 / (1 - self.rate), dx.dtype)

        def step() -> None:
            np.multiply(dy, keeps, out=dx)
            np.multiply(dx, scale, out=dx)

        return Backward([step])


@register("spatial_dropout2d")
class SpatialDropout2d(Layer):
    """Sets a share of the channels to 0 in training, each as a whole: y = x m_c / (1 - rate).

    At inference y = x. Source: Tompson et al., "Efficient object localization using convolutional networks" (2015).
    """

    rate: Annotated[Fraction, "share of channels that are dropped"] = 0.5

    in_place = True
    train_only = True

    def infer_shape(self, *inputs: Shape) -> Shape:
        """The map's own."""
        return expect_map(inputs[0], self.type_name)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """For each channel of each image 0 or 1 / (1 - rate)."""
        return {} if mode == "infer" else {"factor": Buffer((1, inputs[0][0], 1, n), "kept")}

    def forward(self, o: Operands) -> Program:
        """Draw, mask, scale."""
        x, y = o.x, o.y
        if o.mode == "infer":

            def copy() -> None:
                np.copyto(y, x)

            return [copy]
        assert o.random is not None
        random, factor, rate = o.random, o.buffers["factor"], self.rate

        def step() -> None:
            random.uniform(factor)
            np.greater_equal(factor, rate, out=factor)
            np.multiply(factor, 1 / (1 - rate), out=factor)
            np.multiply(x, factor, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """dx = dy m_c / (1 - rate)."""
        dy, dx, factor = o.dy, o.dx, o.buffers["factor"]
        if dx is None:
            return Backward()

        def step() -> None:
            np.multiply(dy, factor, out=dx)

        return Backward([step])
