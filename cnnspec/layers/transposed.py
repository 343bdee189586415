"""Transposed convolution: the input's gradient of a convolution, as a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Annotated, Any, Literal

from cnnspec.fields import Padding, Pair, PositiveInt, Schema
from cnnspec.kernels import cost
from cnnspec.kernels.kernel import Kernel
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step, join_steps
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps, map_shape, within
from cnnspec.layers.bias import add_bias, bias_gradient
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, Windows, expect_map

# the direction of the convolution that computes each direction of this layer
ROLES: Mapping[str, cost.Direction] = {"forward": "input", "input": "forward", "weight": "weight"}
# the lifetime of scratch in each direction of this layer
LIFETIMES: Mapping[str, Lifetime] = {"forward": "forward", "input": "input", "weight": "params"}


_LENGTH: dict[str, Any] = {"type": "integer", "minimum": 0}
Ends = Annotated[
    tuple[int, int],
    Schema(
        {"anyOf": [_LENGTH, {"type": "array", "items": _LENGTH, "minItems": 2, "maxItems": 2}]},
        lambda value: (value[0], value[1]) if isinstance(value, (list, tuple)) else (value, value),
    ),
]


@register("conv_transpose2d")
class ConvTranspose2d(Layer):
    """Spreads every pixel over a window: y[f, i*sh + u*dh - top, j*sw + v*dw - left] += w[c,f,u,v] x[c,i,j], plus b[f].

    (c, h, w) -> (filters, oh, ow), oh = (h - 1) sh - top - bottom + dh (kh - 1) + 1 + output_padding. Its forward pass
    is the input's gradient of the convolution that maps y to x, its input's gradient that convolution. `padding: same`
    cuts the output down to oh = h sh; where the kernel is smaller than the stride it is smaller than that, and stays.
    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016).
    """

    filters: Annotated[PositiveInt, "output channels"]
    kernel_size: Annotated[Pair, "rows and columns of a filter"]
    stride: Annotated[Pair, "step between windows of the output"] = (1, 1)
    padding: Annotated[Padding, "rows and columns cut off the output"] = "valid"
    output_padding: Annotated[Ends, "rows and columns added at the end, fewer than the stride"] = (
        0,
        0,
    )
    dilation: Annotated[Pair, "distance between a filter's taps"] = (1, 1)
    groups: Annotated[PositiveInt, "parts into which channels and filters are split"] = 1
    bias: Annotated[Literal["channel", "none"], "one a filter, or none"] = "channel"
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"

    retains = frozenset({"x"})

    def windows(self, shape: Shape) -> Windows:
        """Return how windows lie over the output, one for each pixel of the input."""
        _, height, width = expect_map(shape, self.type_name)
        lengths, pads = [], []
        for axis, length in enumerate((height, width)):
            extent = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            full = (length - 1) * self.stride[axis] + extent + self.output_padding[axis]
            before, after = self._cut(axis, full - length * self.stride[axis], extent)
            lengths.append(full - before - after)
            pads += [before, after]
        top, bottom, left, right = pads
        if min(lengths) < 1:
            raise ShapeError(
                f"expected an output of at least one pixel, got {lengths[0]}x{lengths[1]}",
                field="padding",
                help="use less padding or a larger kernel_size",
            )
        return Windows(lengths[0], lengths[1], self.kernel_size, self.stride, self.dilation, (top, bottom, left, right))

    def _cut(self, axis: int, surplus: int, extent: int) -> tuple[int, int]:
        if isinstance(self.padding, str):
            total = {"valid": 0, "half": extent - 1}.get(self.padding, max(surplus, 0))
            halves = total // 2, total - total // 2
            return halves[::-1] if self.padding == "same_lower" else halves
        if isinstance(self.padding, int):
            return self.padding, self.padding
        if len(self.padding) == 2:
            return self.padding[axis], self.padding[axis]
        return self.padding[2 * axis], self.padding[2 * axis + 1]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (filters, oh, ow); ShapeError where groups or output_padding do not fit."""
        channels, _, _ = expect_map(inputs[0], self.type_name)
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"expected {channels} input channels and {self.filters} filters divisible by groups {self.groups}",
                field="groups",
            )
        if any(more >= stride for more, stride in zip(self.output_padding, self.stride, strict=True)):
            raise ShapeError(
                f"expected output_padding below the stride, got {list(self.output_padding)}", field="output_padding"
            )
        windows = self.windows(inputs[0])
        return (self.filters, windows.height, windows.width)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c, filters/groups, kh, kw) and bias (filters,)."""
        channels, taps = inputs[0][0], prod(self.kernel_size)
        fans = (channels // self.groups * taps, self.filters // self.groups * taps)
        shape = (channels, self.filters // self.groups, *self.kernel_size)
        params = {"weight": Parameter(shape, self.weight_init, fans, decays=True)}
        return params if self.bias == "none" else {**params, "bias": Parameter((self.filters,), self.bias_init, fans)}

    def cost(self, *inputs: Shape) -> int:
        """Return c * filters/groups * kh * kw * h * w."""
        return prod(inputs[0]) * self.filters // self.groups * prod(self.kernel_size)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the buffers of the convolution's kernels, by this layer's directions, and the bias gradient's sums."""
        problem = self._problem(inputs[0])
        buffers = {}
        for direction, kernel in self._kernels(problem, n, mode).items():
            for name, buffer in kernel.scratch(problem, n).items():
                lifetime = "prepare" if buffer.lifetime == "prepare" else LIFETIMES[direction]
                buffers[f"{direction}.{name}"] = replace(buffer, lifetime=lifetime)
        if mode == "train" and self.bias != "none":
            buffers["bias_rows"] = Buffer((problem.windows.height, self.filters), "params")
        return buffers

    def prepare(self, o: Operands) -> Steps:
        """Bind the transformation of the weights into the forms that the chosen kernels multiply with."""
        problem, steps = self._problem_of(o.x), list[Step]()
        for direction, kernel in self._kernels(problem, o.x.shape[-1], o.mode).items():
            if direction != "input" or o.dx is not None:
                steps += kernel.prepare(problem, o.params["weight"], within(o.buffers, direction))
        return steps

    def forward(self, o: Operands) -> Steps:
        """Bind the input's gradient of the convolution, and the addition of the bias."""
        product = self._bind("forward", o, o.x, o.params["weight"], o.y)
        return [product, *add_bias(o)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx, the convolution of dy; dweight, the weights' gradient of the convolution; and dbias, a sum of dy."""
        params = [self._bind("weight", o, o.dy, o.x, o.grads["weight"])]
        if "bias" in o.grads:
            params.append(bias_gradient(o.dy, o.grads["bias"], o.buffers["bias_rows"]))
        return Backward([] if o.dx is None else [self._bind("input", o, o.dy, o.params["weight"], o.dx)], params)

    def _bind(self, direction: str, o: Operands, a: Array, b: Array, out: Array) -> Step:
        problem = self._problem_of(o.x)
        kernel = self._kernels(problem, o.x.shape[-1], o.mode)[direction]
        buffers = within(o.buffers, direction)
        return join_steps(kernel.bind(problem, a, b, out, buffers))

    def _kernels(self, problem: Problem, n: int, mode: Mode) -> Mapping[str, Kernel]:
        directions = ROLES if mode == "train" else {"forward": ROLES["forward"]}
        return {direction: cost.cheapest(role, problem, n) for direction, role in directions.items()}

    def _problem(self, shape: Shape) -> Problem:
        return Problem(self.windows(shape), self.filters, shape[0], self.groups)

    def _problem_of(self, x: Array) -> Problem:
        return self._problem(map_shape(x))
