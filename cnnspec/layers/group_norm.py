"""Normalisation within each image, over groups of channels: nothing is shared between images or shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import PositiveInt, PositiveNumber
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Program, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map, size


class ImageNorm(Layer):
    """y = weight_c (x - mean) / sqrt(variance + epsilon) + bias_c, mean and variance over one group of an image."""

    epsilon: Annotated[PositiveNumber, "added to the variance"] = 1e-5
    weight_init: Annotated[InitializerField, "how the scale starts"] = "ones"
    bias_init: Annotated[InitializerField, "how the shift starts"] = "zeros"

    in_place: ClassVar[bool] = True

    def count(self, channels: int) -> int:
        """The number of groups."""
        raise NotImplementedError

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """weight (c,) and bias (c,)."""
        shape = (inputs[0][0],)
        return {"weight": Parameter(shape, self.weight_init), "bias": Parameter(shape, self.bias_init)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """The normalised input and the inverse deviations, kept for backward."""
        shape, statistics = batch_shape(inputs[0], n), (self.count(inputs[0][0]), n)
        found = {
            "normalised": Buffer(shape, "kept"),
            "inverse": Buffer(statistics, "kept"),
            "mean": Buffer(statistics),
        }
        if mode == "train":
            found |= {"product": Buffer(shape, "backward"), "scaled": Buffer(shape, "backward")}
            found |= {"offset": Buffer(statistics, "backward"), "slope": Buffer(statistics, "backward")}
        return found

    def grouped(self, array: Array) -> Array:
        """A map or a vector as (h, groups, c/groups, w, n)."""
        h, c, w, n = array.shape if array.ndim == 4 else (1, array.shape[0], 1, array.shape[1])
        groups = self.count(c)
        return array.reshape(h, groups, c // groups, w, n)

    def forward(self, o: Operands) -> Program:
        """Mean, centred squares, scale and shift."""
        x, y, normalised = self.grouped(o.x), self.grouped(o.y), self.grouped(o.buffers["normalised"])
        mean, inverse = (o.buffers[name][None, :, None, None] for name in ("mean", "inverse"))
        weight, bias = (_by_channel(o.params[name], x) for name in ("weight", "bias"))
        share, epsilon = mean.size / x.size, self.epsilon

        def step() -> None:
            np.add.reduce(x, axis=(0, 2, 3), keepdims=True, out=mean)
            np.multiply(mean, share, out=mean)
            np.subtract(x, mean, out=normalised)
            np.square(normalised, out=y)
            np.add.reduce(y, axis=(0, 2, 3), keepdims=True, out=inverse)
            np.multiply(inverse, share, out=inverse)
            np.add(inverse, epsilon, out=inverse)
            np.sqrt(inverse, out=inverse)
            np.reciprocal(inverse, out=inverse)
            np.multiply(normalised, inverse, out=normalised)
            np.multiply(normalised, weight, out=y)
            np.add(y, bias, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """With z the normalised input and g = weight dy: dx = inverse (g - mean(g) - z mean(g z))."""
        dy, normalised = self.grouped(o.dy), self.grouped(o.buffers["normalised"])
        product, scaled = self.grouped(o.buffers["product"]), self.grouped(o.buffers["scaled"])
        weight = _by_channel(o.params["weight"], dy)
        dweight, dbias = (o.grads[name].reshape(dy.shape[1:3]) for name in ("weight", "bias"))
        inverse, offset, slope = (o.buffers[name][None, :, None, None] for name in ("inverse", "offset", "slope"))
        share = inverse.size / dy.size

        def sums() -> None:
            np.multiply(dy, normalised, out=product)
            np.add.reduce(product, axis=(0, 3, 4), out=dweight)
            np.add.reduce(dy, axis=(0, 3, 4), out=dbias)

        if o.dx is None:
            return Backward(params=[sums])
        dx = self.grouped(o.dx)

        def step() -> None:
            np.multiply(dy, weight, out=scaled)
            np.add.reduce(scaled, axis=(0, 2, 3), keepdims=True, out=offset)
            np.multiply(scaled, normalised, out=product)
            np.add.reduce(product, axis=(0, 2, 3), keepdims=True, out=slope)
            np.multiply(offset, share, out=offset)
            np.multiply(slope, share, out=slope)
            np.multiply(normalised, slope, out=product)
            np.subtract(scaled, product, out=scaled)
            np.subtract(scaled, offset, out=scaled)
            np.multiply(scaled, inverse, out=dx)

        return Backward(input=[step], params=[sums])


def _by_channel(vector: Array, grouped: Array) -> Array:
    return vector.reshape(grouped.shape[1], grouped.shape[2], 1, 1)


@register("group_norm")
class GroupNorm(ImageNorm):
    """Normalises each image over groups of channels. Source: Wu and He, "Group normalization" (2018)."""

    groups: Annotated[PositiveInt, "groups that the channels are cut into"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """The input's shape; ShapeError where groups do not divide the channels."""
        if inputs[0][0] % self.groups:
            raise ShapeError(
                f"expected a number of groups that divides {inputs[0][0]} channels, got {self.groups}", field="groups"
            )
        return inputs[0]

    def count(self, channels: int) -> int:
        """As declared."""
        return self.groups


@register("layer_norm")
class LayerNorm(ImageNorm):
    """Normalises each image over all its channels and pixels, with one weight and bias for each channel.

    Source: Ba et al., "Layer normalization" (2016).
    """

    def count(self, channels: int) -> int:
        """One group."""
        return 1


@register("instance_norm")
class InstanceNorm(ImageNorm):
    """Normalises each channel of each image. Source: Ulyanov et al., "Instance normalization" (2016)."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """The map's own; ShapeError for a single pixel, whose variance is 0."""
        shape = expect_map(inputs[0], self.type_name)
        if size(shape[1:]) == 1:
            raise ShapeError("expected a map of more than one pixel, got 1x1")
        return shape

    def count(self, channels: int) -> int:
        """A group for each channel."""
        return channels
