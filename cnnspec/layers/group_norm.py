"""Normalisation within each image, over groups of channels: nothing is shared between images or shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import PositiveInt, PositiveNumber
from cnnspec.kernels import sums
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map, size


class ImageNorm(Layer):
    """Base of y = weight_c (x - mean) / sqrt(variance + epsilon) + bias_c, both over a group of an image's channels."""

    epsilon: Annotated[PositiveNumber, "added to the variance"] = 1e-5
    weight_init: Annotated[InitializerField, "how the scale starts"] = "ones"
    bias_init: Annotated[InitializerField, "how the shift starts"] = "zeros"

    normalises: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    def count(self, channels: int) -> int:
        """Return the number of groups for `channels` channels."""
        raise NotImplementedError

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c,) and bias (c,)."""
        shape = (inputs[0][0],)
        return {"weight": Parameter(shape, self.weight_init), "bias": Parameter(shape, self.bias_init)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the centred input and inverse deviations, which backward reads, sums, and factors for a row."""
        c, h, w = inputs[0] if len(inputs[0]) == 3 else (inputs[0][0], 1, 1)
        shape, groups = batch_shape(inputs[0], n), self.count(c)
        buffers = {
            "centred": Buffer(shape, "kept"),
            "inverse": Buffer((groups, n), "kept"),
            "mean": Buffer((groups, n)),
            "partial": Buffer((h, groups, n)),
            "repeated": Buffer((2, c, w, n)),
        }
        if mode == "train":
            buffers |= {
                "product": Buffer(shape, "input"),
                "partial_gradients": Buffer((h, c, n), "shared"),
                "totals": Buffer((2, c, n), "shared"),
                "means": Buffer((2, groups, n), "input"),
                "repeated_factors": Buffer((3, c, w, n), "input"),
            }
        return buffers

    def forward(self, o: Operands) -> Steps:
        """Bind the mean, the centred squares, and scale and shift, which are repeated along one row of the map."""
        mean, inverse, partial, repeated = (o.buffers[name] for name in ("mean", "inverse", "partial", "repeated"))
        x, y, centred = (array.reshape(len(partial), -1) for array in self._maps(o.x, o.y, o.buffers["centred"]))
        groups, n = inverse.shape
        by_group = (len(partial), groups, -1, n)
        summed = sums.image_sum(x.reshape(by_group), mean, partial)
        squared = sums.image_sum(y.reshape(by_group), inverse, partial)
        spread = repeated[0].reshape(by_group[1:])
        first, second = repeated.reshape(2, -1)  # the means, then scale and shift
        weight, bias = (o.params[name] for name in ("weight", "bias"))
        share, epsilon = inverse.size / x.size, self.epsilon

        def step() -> None:
            summed()
            np.multiply(mean, share, out=mean)
            np.copyto(spread, mean[:, None])
            np.subtract(x, first, out=centred)
            np.square(centred, out=y)
            squared()
            np.multiply(inverse, share, out=inverse)
            np.add(inverse, epsilon, out=inverse)
            np.sqrt(inverse, out=inverse)
            np.reciprocal(inverse, out=inverse)
            np.copyto(spread, inverse[:, None])
            np.multiply(repeated[0], weight[:, None, None], out=repeated[0])
            np.copyto(repeated[1], bias[:, None, None])
            np.multiply(centred, first, out=y)
            np.add(y, second, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = inverse (g - mean(g) - z mean(g z)), with z the normalised input and g = weight dy.

        These means, dweight and dbias follow from sums of dy and dy z over an image's rows and columns.
        """
        inverse, partial, totals = o.buffers["inverse"], o.buffers["partial_gradients"], o.buffers["totals"]
        dy, centred, product = self._maps(o.dy, o.buffers["centred"], o.buffers["product"])
        groups, n = inverse.shape
        sum_dy, sum_product = (
            sums.image_sum(array, out, partial) for array, out in zip((dy, product), totals, strict=True)
        )
        by_group = totals.reshape(2, groups, -1, n)
        weight, dweight, dbias = o.params["weight"], o.grads["weight"], o.grads["bias"]

        def add_up() -> None:
            sum_dy()
            np.multiply(dy, centred, out=product)
            sum_product()
            np.multiply(by_group[1], inverse[:, None], out=by_group[1])

        def gradients() -> None:
            np.add.reduce(totals[0], axis=1, out=dbias)
            np.add.reduce(totals[1], axis=1, out=dweight)

        if o.dx is None:
            return Backward(shared=[add_up], params=[gradients])
        dx = o.dx.reshape(dy.shape)
        means, repeated = o.buffers["means"], o.buffers["repeated_factors"]
        spread = repeated.reshape(3, groups, -1, n)
        share = inverse.size / dy.size

        def step() -> None:
            np.matmul(weight.reshape(groups, 1, -1), by_group, out=means[:, :, None])
            np.multiply(means, -share, out=means)
            np.multiply(means, inverse, out=means)
            np.copyto(spread[0], inverse[:, None])
            np.multiply(repeated[0], weight[:, None, None], out=repeated[0])
            np.copyto(spread[1], means[0][:, None])
            np.multiply(means[1], inverse, out=means[1])
            np.copyto(spread[2], means[1][:, None])
            np.multiply(centred, repeated[2], out=product)
            np.multiply(dy, repeated[0], out=dx)
            np.add(dx, product, out=dx)
            np.add(dx, repeated[1], out=dx)

        return Backward(shared=[add_up], input=[step], params=[gradients])

    @staticmethod
    def _maps(*arrays: Array) -> list[Array]:
        """View the arrays as maps: a vector becomes a map of one pixel."""
        return [array if array.ndim == 4 else array[None, :, None] for array in arrays]


@register("group_norm")
class GroupNorm(ImageNorm):
    """Normalises each image over groups of channels. Source: Wu and He, "Group normalization" (2018)."""

    groups: Annotated[PositiveInt, "groups that the channels are cut into"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError where groups do not divide the channels."""
        if inputs[0][0] % self.groups:
            raise ShapeError(
                f"expected a number of groups that divides {inputs[0][0]} channels, got {self.groups}", field="groups"
            )
        return inputs[0]

    def count(self, channels: int) -> int:
        """Return the number that the spec declares."""
        return self.groups


@register("instance_norm")
class InstanceNorm(ImageNorm):
    """Normalises each channel of each image. Source: Ulyanov et al., "Instance normalization" (2016)."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the map; ShapeError for a single pixel, whose variance is 0."""
        shape = expect_map(inputs[0], self.type_name)
        if size(shape[1:]) == 1:
            raise ShapeError("expected a map of more than one pixel, got 1x1")
        return shape

    def count(self, channels: int) -> int:
        """Return the number of channels: each is a group."""
        return channels
