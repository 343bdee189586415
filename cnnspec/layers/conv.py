"""Convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np

from cnnspec.fields import Padding, Pair, PositiveInt, Registered
from cnnspec.kernels.convolution import (
    correlate,
    gradient_windows,
    pack_flipped_weight,
    pack_weight,
    scatter_gradient,
    weight_gradient,
)
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.sums import channel_sum, rows_of
from cnnspec.kernels.unfold import bind_taps, taps_shape
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Program
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, Windows, expect_map, windows


@register("conv2d")
@dataclass(frozen=True, kw_only=True)
class Conv2d(Layer):
    """Slides filters over a map: y[f,i,j] = b + sum_{c,u,v} w[f,c,u,v] x[c, i*sh + u*dh - top, j*sw + v*dw - left].

    (c, h, w) -> (filters, oh, ow), with oh = floor((h + top + bottom - dh*(kh - 1) - 1) / sh) + 1. With groups, each
    group of filters sees its own share of the channels. `bias: untied` gives every output position its own b[f,i,j].
    Errors: shape-mismatch. Source: LeCun et al., "Gradient-based learning applied to document recognition" (1998).
    """

    filters: Annotated[PositiveInt, "output channels"]
    kernel_size: Annotated[Pair, "rows and columns of a filter"]
    stride: Annotated[Pair, "step between windows"] = (1, 1)
    padding: Annotated[Padding, "valid, same, n, [h, w] or [top, bottom, left, right]"] = "valid"
    dilation: Annotated[Pair, "distance between a filter's taps"] = (1, 1)
    groups: Annotated[PositiveInt, "parts into which channels and filters are split"] = 1
    bias: Annotated[Literal["channel", "untied", "none"], "one a filter, one an output position, or none"] = "channel"
    activation: Annotated[Any, Registered("layer"), "a layer applied to the result, such as relu"] = None
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"

    retains = frozenset({"x"})

    def windows(self, shape: Shape) -> Windows:
        """How the filters lie over a map."""
        return windows(
            shape,
            "conv2d",
            kernel=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    def infer_shape(self, *inputs: Shape) -> Shape:
        """(filters, oh, ow)."""
        channels, _, _ = expect_map(inputs[0], "conv2d")
        for what, count in (("input channels", channels), ("filters", self.filters)):
            if count % self.groups:
                raise ShapeError(
                    f"expected {what} divisible by groups {self.groups}, got {count}",
                    field="groups",
                    help=f"use groups: {_largest_divisor(count, self.groups)}, or another number of {what}",
                )
        return (self.filters, *self.windows(inputs[0]).output)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """weight (filters, c/groups, kh, kw) and bias (filters,), or (filters, oh, ow) untied."""
        channels, taps = inputs[0][0] // self.groups, prod(self.kernel_size)
        fans = (channels * taps, self.filters // self.groups * taps)
        found = {"weight": Parameter((self.filters, channels, *self.kernel_size), self.weight_init, fans, decays=True)}
        if self.bias != "none":
            shape = (self.filters,) if self.bias == "channel" else self.infer_shape(*inputs)
            found["bias"] = Parameter(shape, self.bias_init, fans)
        return found

    def cost(self, *inputs: Shape) -> int:
        """filters * c/groups * kh * kw * oh * ow."""
        return prod(self.infer_shape(*inputs)) * inputs[0][0] // self.groups * prod(self.kernel_size)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Packed weights, the taps of x and of dy, and the products that are summed."""
        shape, laid, groups = inputs[0], self.windows(inputs[0]), self.groups
        (oh, ow), depth = laid.output, prod(self.kernel_size) * shape[0] // groups
        filters = self.filters // groups
        found = {"packed": Buffer((groups, filters, depth), "prepare")}
        taps = taps_shape(laid, shape[0], groups, n)
        if taps:
            found["taps"] = Buffer(taps)
        if mode == "infer":
            return found
        if taps:
            found["taps_again"] = Buffer(taps, "backward")
        found["products"] = Buffer((groups, oh, depth, filters), "backward")
        found["total"] = Buffer((groups, depth, filters), "backward")
        found["bias_rows"] = Buffer((oh, self.filters), "backward")
        above = gradient_windows(laid)
        if above is None:
            found["tap_gradients"] = Buffer((groups, oh, depth, ow * n), "backward")
        else:
            found["flipped"] = Buffer((groups, shape[0] // groups, prod(self.kernel_size) * filters), "prepare")
            gradient_taps = taps_shape(above, self.filters, groups, n)
            if gradient_taps:
                found["gradient_taps"] = Buffer(gradient_taps, "backward")
        return found

    def prepare(self, o: Operands) -> Program:
        """Bring the weights into the order of the taps."""
        steps = [pack_weight(o.params["weight"], o.buffers["packed"])]
        if "flipped" in o.buffers:
            steps.append(pack_flipped_weight(o.params["weight"], o.buffers["flipped"]))
        return steps

    def forward(self, o: Operands) -> Program:
        """Taps, product, bias."""
        taps, fill = bind_taps(o.x, self._laid_over(o.x), self.groups, o.buffers.get("taps"))
        steps = [*fill, correlate(taps, o.buffers["packed"], o.y)]
        return [*steps, self._add_bias(o.y, o.params["bias"])] if "bias" in o.params else steps

    def backward(self, o: Operands) -> Backward:
        """dx by the flipped weights, or by scattering at strides above 1; dW by the taps; db by sums."""
        laid = self._laid_over(o.x)
        taps, fill = bind_taps(o.x, laid, self.groups, o.buffers.get("taps_again"))
        weight = weight_gradient(taps, o.dy, o.grads["weight"], o.buffers["products"], o.buffers["total"])
        params = [*fill, weight]
        if "bias" in o.grads:
            params.append(self._bias_gradient(o.dy, o.grads["bias"], o.buffers["bias_rows"]))
        if o.dx is None:
            return Backward(params=params)
        above = gradient_windows(laid)
        if above is None:
            scatter = scatter_gradient(o.buffers["packed"], o.dy, o.dx, o.buffers["tap_gradients"], laid)
            return Backward([scatter], params)
        gradient_taps, fill = bind_taps(o.dy, above, self.groups, o.buffers.get("gradient_taps"))
        return Backward([*fill, correlate(gradient_taps, o.buffers["flipped"], o.dx)], params)

    def _laid_over(self, x: Array) -> Windows:
        h, c, w, _ = x.shape
        return self.windows((c, h, w))

    def _add_bias(self, y: Array, bias: Array) -> Step:
        # (filters, oh, ow) as (oh, filters, ow, 1), or (filters,) against (oh, filters, ow*n)
        target = y if self.bias == "untied" else rows_of(y)
        spread = bias.transpose(1, 0, 2)[..., None] if self.bias == "untied" else bias[:, None]

        def step() -> None:
            np.add(target, spread, out=target)

        return step

    def _bias_gradient(self, dy: Array, dbias: Array, rows: Array) -> Step:
        if self.bias == "channel":
            return channel_sum(dy, dbias, rows)
        source = dy.transpose(1, 0, 2, 3)  # (filters, oh, ow, n)

        def step() -> None:
            np.add.reduce(source, axis=-1, out=dbias)

        return step


def _largest_divisor(count: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if count % d == 0)
