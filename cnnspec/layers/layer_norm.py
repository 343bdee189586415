"""Normalisation of each pixel over its channels, with or without the mean, or of the whole map over all its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np

from cnnspec.fields import PositiveNumber
from cnnspec.kernels import sums
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps, batch_shape
from cnnspec.layers.group_norm import ImageNorm
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError


@register("layer_norm")
class LayerNorm(ImageNorm):
    """y = weight_c (x - mean) / sqrt(variance + epsilon) + bias_c, over the channels of each pixel or a whole image.

    Mean and variance are taken over the channels of a pixel (`over: channels`: transformers, ConvNeXt; PyTorch's
    LayerNorm on channels-last arrays), or over all channels and pixels of an image (`over: map`: group_norm with one
    group). A map needs `over`, as both have equal shapes and parameters; for a vector both are one.
    weight and bias (c,). Source: Ba et al., "Layer normalization" (2016).
    """

    over: Annotated[
        Literal["channels", "map"] | None,
        "what one mean is of: the channels of a pixel, or all of an image; a vector needs no answer",
    ] = None

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError for a map without `over`."""
        if len(inputs[0]) == 3 and self.over is None:
            raise ShapeError(
                "expected over: channels or over: map, as a map can be normalised in two ways",
                field="over",
                help="over: channels normalises each pixel (ConvNeXt, transformers), "
                "over: map all channels and pixels of an image together (group_norm with groups: 1)",
            )
        return inputs[0]

    def count(self, channels: int) -> int:
        """Return 1: all channels are one group."""
        return 1

    def _by_pixel(self, rank: int) -> bool:
        return rank == 3 and self.over == "channels"

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the arrays for the axis that `over` names."""
        if not self._by_pixel(len(inputs[0])):
            return super().scratch(*inputs, n=n, mode=mode)
        return _scratch(inputs[0], n, mode)

    def forward(self, o: Operands) -> Steps:
        """Bind mean, variance, scale and shift."""
        return [_normalise(o, self.epsilon, centre=True)] if self._by_pixel(o.x.ndim - 1) else super().forward(o)

    def backward(self, o: Operands) -> Backward:
        """With z the normalised input and g = weight dy: dx = inverse (g - mean(g) - z mean(g z))."""
        return _gradients(o, centre=True) if self._by_pixel(o.dy.ndim - 1) else super().backward(o)


@register("rms_norm")
class RmsNorm(Layer):
    """y = weight_c x / sqrt(mean of x^2 over the channels + epsilon), each pixel of a map by itself.

    weight (c,). Source: Zhang and Sennrich, "Root mean square layer normalization" (2019).
    """

    epsilon: Annotated[PositiveNumber, "added to the mean of squares"] = 1e-6
    weight_init: Annotated[InitializerField, "how the scale starts"] = "ones"

    normalises = True
    in_place = True

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c,), what each channel is scaled by."""
        return {"weight": Parameter((inputs[0][0],), self.weight_init)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the normalised input and the inverse roots, both kept for backward, and scratch of the gradients."""
        return _scratch(inputs[0], n, mode)

    def forward(self, o: Operands) -> Steps:
        """Bind the mean of squares and the scale."""
        return [_normalise(o, self.epsilon, centre=False)]

    def backward(self, o: Operands) -> Backward:
        """With z the normalised input and g = weight dy: dx = inverse (g - z mean(g z))."""
        return _gradients(o, centre=False)


def _scratch(shape: Shape, n: int, mode: Mode) -> dict[str, Buffer]:
    """The normalised input and the inverse deviations, which backward reads, and the scratch of each pass."""
    c, h, w = shape if len(shape) == 3 else (shape[0], 1, 1)
    each, pixels = Buffer(batch_shape(shape, n), "kept"), (h, 1, w * n)
    buffers = {"normalised": each, "inverse": Buffer(pixels, "kept"), "mean": Buffer(pixels)}
    if mode == "train":
        buffers |= {
            "scaled": Buffer(each.shape, "input"),
            "means": Buffer((2, *pixels), "input"),
            "product": Buffer(each.shape, "params"),
            "partial": Buffer((h, c), "params"),
        }
    return buffers


def _normalise(o: Operands, epsilon: float, *, centre: bool) -> Step:
    x, y, normalised = (sums.rows_of(array) for array in (o.x, o.y, o.buffers["normalised"]))
    mean, inverse = o.buffers["mean"], o.buffers["inverse"]
    weight, bias = o.params["weight"][:, None], o.params.get("bias")
    shift = None if bias is None else bias[:, None]
    share = 1 / x.shape[1]

    def step() -> None:
        source = x
        if centre:
            np.add.reduce(x, axis=1, keepdims=True, out=mean)
            np.multiply(mean, share, out=mean)
            np.subtract(x, mean, out=normalised)
            np.square(normalised, out=y)  # x is not read again: y may lie in its place
            np.add.reduce(y, axis=1, keepdims=True, out=inverse)
            source = normalised
        else:
            np.square(x, out=normalised)
            np.add.reduce(normalised, axis=1, keepdims=True, out=inverse)
        np.multiply(inverse, share, out=inverse)
        np.add(inverse, epsilon, out=inverse)
        np.sqrt(inverse, out=inverse)
        np.reciprocal(inverse, out=inverse)
        np.multiply(source, inverse, out=normalised)
        np.multiply(normalised, weight, out=y)
        if shift is not None:
            np.add(y, shift, out=y)

    return step


def _gradients(o: Operands, *, centre: bool) -> Backward:
    dy, normalised, product = (sums.rows_of(a) for a in (o.dy, o.buffers["normalised"], o.buffers["product"]))
    partial, inverse, weight = o.buffers["partial"], o.buffers["inverse"], o.params["weight"][:, None]

    def multiply() -> None:
        np.multiply(dy, normalised, out=product)

    params: list[Step] = [multiply, sums.channel_sum(o.buffers["product"], o.grads["weight"], partial)]
    if "bias" in o.grads:
        params.append(sums.channel_sum(o.dy, o.grads["bias"], partial))
    if o.dx is None:
        return Backward(params=params)
    dx, scaled = sums.rows_of(o.dx), sums.rows_of(o.buffers["scaled"])
    (mean, mean_product), share = o.buffers["means"], 1 / dy.shape[1]

    def step() -> None:
        np.multiply(dy, weight, out=scaled)
        np.multiply(scaled, normalised, out=dx)
        _mean(dx, mean_product, share)
        np.multiply(normalised, mean_product, out=dx)
        if centre:
            _mean(scaled, mean, share)
            np.add(dx, mean, out=dx)
        np.subtract(scaled, dx, out=dx)
        np.multiply(dx, inverse, out=dx)

    return Backward(input=[step], params=params)


def _mean(array: Array, out: Array, share: float) -> None:
    np.add.reduce(array, axis=1, keepdims=True, out=out)
    np.multiply(out, share, out=out)
