"""Convolutions of each channel by itself: depthwise, and depthwise followed by a 1x1 convolution over channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from cnnspec.fields import ConvolutionPadding, Pair, PositiveInt
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import (
    Backward,
    InitializerField,
    Layer,
    Mode,
    Operands,
    Parameter,
    Steps,
    batch_shape,
    within,
)
from cnnspec.layers.conv import Conv2d
from cnnspec.registry import register
from cnnspec.shapes import Shape, Windows, expect_map


@register("depthwise_conv2d")
class DepthwiseConv2d(Layer):
    """Slides `multiplier` filters over each channel by itself: a conv2d with as many groups as channels.

    (c, h, w) -> (c * multiplier, oh, ow), with the paddings of conv2d. Source: Howard et al., "MobileNets" (2017).
    """

    kernel_size: Annotated[Pair, "rows and columns of a filter"]
    multiplier: Annotated[PositiveInt, "filters a channel"] = 1
    stride: Annotated[Pair, "step between windows"] = (1, 1)
    padding: Annotated[
        ConvolutionPadding, "valid, same, n, [h, w], [top, bottom, left, right], reflect, replicate or circular"
    ] = "valid"
    dilation: Annotated[Pair, "distance between a filter's taps"] = (1, 1)
    bias: Annotated[Literal["channel", "none"], "one a filter, or none"] = "channel"
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"
    kernel: Annotated[
        Literal["direct", "winograd2", "winograd4", "dft", "depthwise", "patches"] | None,
        "pins the algorithm where it applies",
    ] = None

    retains = frozenset({"x"})
    scales = "weight"
    row_reads = "windows"

    def grouped(self, channels: int) -> Conv2d:
        """Return the equivalent conv2d with a group for each channel, which does all the work."""
        return Conv2d(
            filters=channels * self.multiplier,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=channels,
            bias=self.bias,
            weight_init=self.weight_init,
            bias_init=self.bias_init,
            kernel=self.kernel,
        )

    def convolution(self, *inputs: Shape) -> Problem:
        """Return how the windows lie, with a group for each channel."""
        return self.grouped(inputs[0][0]).convolution(*inputs)

    def windows(self, shape: Shape) -> Windows:
        """Return how the filters lie over a map."""
        return self.grouped(shape[0]).windows(shape)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c * multiplier, oh, ow)."""
        return self.grouped(expect_map(inputs[0], self.type_name)[0]).infer_shape(*inputs)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c * multiplier, 1, kh, kw) and bias (c * multiplier,)."""
        return self.grouped(inputs[0][0]).params(*inputs)

    def cost(self, *inputs: Shape) -> int:
        """Return c * multiplier * kh * kw * oh * ow."""
        return self.grouped(inputs[0][0]).cost(*inputs)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the buffers of the grouped convolution."""
        return self.grouped(inputs[0][0]).scratch(*inputs, n=n, mode=mode)

    def prepare(self, o: Operands) -> Steps:
        """Bind the preparation of the grouped convolution."""
        return self.grouped(o.x.shape[1]).prepare(o)

    def forward(self, o: Operands) -> Steps:
        """Bind the forward pass of the grouped convolution."""
        return self.grouped(o.x.shape[1]).forward(o)

    def backward(self, o: Operands) -> Backward:
        """Bind the gradients of the grouped convolution."""
        return self.grouped(o.x.shape[1]).backward(o)


@register("separable_conv2d")
class SeparableConv2d(Layer):
    """A depthwise convolution followed by a 1x1 convolution, with nothing in between.

    (c, h, w) -> (filters, oh, ow), with the paddings of conv2d. Source: Chollet, "Xception: deep learning with
    depthwise separable convolutions" (2017).
    """

    filters: Annotated[PositiveInt, "output channels"]
    kernel_size: Annotated[Pair, "rows and columns of a depthwise filter"]
    multiplier: Annotated[PositiveInt, "depthwise filters a channel"] = 1
    stride: Annotated[Pair, "step between windows"] = (1, 1)
    padding: Annotated[
        ConvolutionPadding, "valid, same, n, [h, w], [top, bottom, left, right], reflect, replicate or circular"
    ] = "valid"
    dilation: Annotated[Pair, "distance between a filter's taps"] = (1, 1)
    bias: Annotated[Literal["channel", "none"], "one a filter, or none"] = "channel"
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"

    retains = frozenset({"x"})
    scales = "pointwise"

    def parts(self, channels: int) -> tuple[Conv2d, Conv2d]:
        """Return the depthwise convolution of `channels` channels, and the 1x1 convolution behind it."""
        depthwise = DepthwiseConv2d(
            kernel_size=self.kernel_size,
            multiplier=self.multiplier,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            bias="none",
            weight_init=self.weight_init,
        ).grouped(channels)
        pointwise = Conv2d(
            filters=self.filters,
            kernel_size=(1, 1),
            bias=self.bias,
            weight_init=self.weight_init,
            bias_init=self.bias_init,
        )
        return depthwise, pointwise

    def windows(self, shape: Shape) -> Windows:
        """Return how the depthwise filters lie over a map."""
        return self.parts(shape[0])[0].windows(shape)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (filters, oh, ow)."""
        channels, _, _ = expect_map(inputs[0], self.type_name)
        return (self.filters, *self.parts(channels)[0].infer_shape(*inputs)[1:])

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return depthwise (c * multiplier, 1, kh, kw), pointwise (filters, c * multiplier, 1, 1), bias (filters,)."""
        depthwise, pointwise = self.parts(inputs[0][0])
        between = pointwise.params(depthwise.infer_shape(*inputs))
        params = {"depthwise": depthwise.params(*inputs)["weight"], "pointwise": between["weight"]}
        return {**params, "bias": between["bias"]} if "bias" in between else params

    def cost(self, *inputs: Shape) -> int:
        """Return c * multiplier * (kh * kw + filters) * oh * ow."""
        depthwise, pointwise = self.parts(inputs[0][0])
        return depthwise.cost(*inputs) + pointwise.cost(depthwise.infer_shape(*inputs))

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the buffers of both convolutions, the map between them, and its gradient."""
        depthwise, pointwise = self.parts(inputs[0][0])
        middle = depthwise.infer_shape(*inputs)
        buffers = {f"depthwise.{key}": value for key, value in depthwise.scratch(*inputs, n=n, mode=mode).items()}
        for key, value in pointwise.scratch(middle, n=n, mode=mode).items():
            lifetime = "shared" if value.lifetime == "input" else value.lifetime
            buffers[f"pointwise.{key}"] = replace(value, lifetime=lifetime)
        buffers["middle"] = Buffer(batch_shape(middle, n), "kept")
        if mode == "train":
            buffers["middle_gradient"] = Buffer(batch_shape(middle, n), "shared")
        return buffers

    def prepare(self, o: Operands) -> Steps:
        """Bind the preparation of both convolutions."""
        (depthwise, first), (pointwise, second) = self._bound(o)
        return [*depthwise.prepare(first), *pointwise.prepare(second)]

    def forward(self, o: Operands) -> Steps:
        """Bind the depthwise convolution, and the 1x1 convolution of its output."""
        (depthwise, first), (pointwise, second) = self._bound(o)
        return [*depthwise.forward(first), *pointwise.forward(second)]

    def backward(self, o: Operands) -> Backward:
        """Bind both convolutions' gradients. Those of the depthwise one read the gradient of the map between them."""
        (depthwise, first), (pointwise, second) = self._bound(o)
        upper, lower = pointwise.backward(second), depthwise.backward(first)
        shared = [*upper.shared, *upper.input, *lower.shared]
        return Backward(lower.input, [*upper.params, *lower.params], shared=shared)

    def _bound(self, o: Operands) -> tuple[tuple[Conv2d, Operands], tuple[Conv2d, Operands]]:
        depthwise, pointwise = self.parts(o.x.shape[1])
        middle, gradient = o.buffers["middle"], o.buffers.get("middle_gradient")
        first = replace(
            o,
            output=middle,
            output_grads=() if gradient is None else (gradient,),
            params=_renamed(o.params, "depthwise"),
            grads=_renamed(o.grads, "depthwise"),
            buffers=within(o.buffers, "depthwise"),
        )
        second = replace(
            o,
            inputs=(middle,),
            input_grads=(gradient,),
            params=_renamed(o.params, "pointwise"),
            grads=_renamed(o.grads, "pointwise"),
            buffers=within(o.buffers, "pointwise"),
        )
        return (depthwise, first), (pointwise, second)


def _renamed(arrays: Mapping[str, Array], part: str) -> dict[str, Array]:
    """The arrays of one of the two convolutions, by the names of conv2d; the bias belongs to the second."""
    names = {part: "weight", "bias": "bias"} if part == "pointwise" else {part: "weight"}
    return {names[name]: array for name, array in arrays.items() if name in names}
