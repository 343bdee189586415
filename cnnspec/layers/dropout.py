"""Dropout of numbers, of channels and of whole branches: a random mask in training, nothing at inference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

import numpy as np

from cnnspec.fields import Fraction
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, expect_map


class Masking(Layer):
    """Base of y = x m / (1 - rate) in training, with m = 1 with probability 1 - rate; at inference y = x.

    A subclass says which numbers of x share one number of the mask.
    """

    rate: Annotated[Fraction, "probability of being dropped"] = 0.5

    in_place = True
    gradient_place = "dy"
    train_only = True

    @abstractmethod
    def mask_shape(self, shape: Shape, n: int) -> Shape:
        """Return the mask's shape in a plan; it is repeated along axes of length 1."""

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the uniform numbers of a step and the mask, which is kept for backward; nothing at inference."""
        shape = self.mask_shape(inputs[0], n)
        return {} if mode == "infer" else {"uniform": Buffer(shape), "keeps": Buffer(shape, "kept", bool)}

    def forward(self, o: Operands) -> Steps:
        """Bind the draw of the mask, its product with x, and the scaling; at inference a copy."""
        x, y = o.x, o.y
        if o.mode == "infer":
            return [copy(x, y)]
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


@register("dropout")
class Dropout(Masking):
    """Sets a share of the numbers to 0 in training: y = x m / (1 - rate), m = 1 with probability 1 - rate.

    At inference y = x. Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting" (2014).
    """

    def mask_shape(self, shape: Shape, n: int) -> Shape:
        """Return the shape of the input: every number has its own."""
        return batch_shape(shape, n)


@register("spatial_dropout2d")
class SpatialDropout2d(Masking):
    """Sets a share of the channels to 0 in training, each as a whole: y = x m_c / (1 - rate).

    At inference y = x. Source: Tompson et al., "Efficient object localization using convolutional networks" (2015).
    """

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the map; ShapeError for a vector."""
        return expect_map(inputs[0], self.type_name)

    def mask_shape(self, shape: Shape, n: int) -> Shape:
        """Return a shape with one number for each channel of each image."""
        return (1, shape[0], 1, n)


@register("drop_path")
class DropPath(Masking):
    """Sets all of an image's numbers to 0 with probability `rate` in training, at the end of a residual's body.

    At inference y = x. Source: Huang et al., "Deep networks with stochastic depth" (2016).
    """

    def mask_shape(self, shape: Shape, n: int) -> Shape:
        """Return a shape with one number for each image."""
        return (1,) * len(shape) + (n,)
