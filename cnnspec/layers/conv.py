"""Convolution in two dimensions; its kernel is the one with the lowest estimated cost."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, isqrt, prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cnnspec.fields import ConvolutionPadding, Pair, PositiveInt, Registered
from cnnspec.kernels import cost
from cnnspec.kernels.kernel import Kernel
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step, join_steps
from cnnspec.layers.base import (
    Backward,
    InitializerField,
    Layer,
    Mode,
    Operands,
    Parameter,
    Steps,
    map_shape,
    within,
)
from cnnspec.layers.bias import add_bias, bias_gradient, bias_scratch, prepare_bias
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, Windows, expect_map, windows

if TYPE_CHECKING:
    from cnnspec.kernels.cost import Choice, Direction

MOST_TRIED = 1024  # divisors that are tried for a suggestion, whatever the counts


@register("conv2d")
class Conv2d(Layer):
    """Slides filters over a map: y[f,i,j] = b + sum_{c,u,v} w[f,c,u,v] x[c, i*sh + u*dh - top, j*sw + v*dw - left].

    (c, h, w) -> (filters, oh, ow), with oh = floor((h + top + bottom - dh*(kh - 1) - 1) / sh) + 1. With groups, each
    group of filters sees its own share of the channels. `bias: untied` gives every output position its own b[f,i,j].
    `padding: reflect`, `replicate` or `circular` is a margin as wide as that of `same`, made of the map's own pixels:
    it stands for a `pad2d` in front, and `padding: valid`. Other widths are said by such a layer itself.
    Errors: shape-mismatch. Source: LeCun et al., "Gradient-based learning applied to document recognition" (1998).
    """

    filters: Annotated[PositiveInt, "output channels"]
    kernel_size: Annotated[Pair, "rows and columns of a filter"]
    stride: Annotated[Pair, "step between windows"] = (1, 1)
    padding: Annotated[
        ConvolutionPadding, "valid, same, n, [h, w], [top, bottom, left, right], reflect, replicate or circular"
    ] = "valid"
    dilation: Annotated[Pair, "distance between a filter's taps"] = (1, 1)
    groups: Annotated[PositiveInt, "parts into which channels and filters are split"] = 1
    bias: Annotated[Literal["channel", "untied", "none"], "one a filter, one an output position, or none"] = "channel"
    activation: Annotated[Any, Registered("layer"), "a layer applied to the result, such as relu"] = None
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"
    kernel: Annotated[
        Literal["direct", "winograd2", "winograd4", "dft", "depthwise", "patches"] | None,
        "pins the algorithm where it applies",
    ] = None

    retains = frozenset({"x"})
    scales = "weight"
    convolves = True
    row_reads = "windows"

    def windows(self, shape: Shape) -> Windows:
        """Return how the filters lie over a map."""
        return windows(
            shape,
            "conv2d",
            kernel=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (filters, oh, ow); ShapeError where groups do not divide the channels or a filter does not fit."""
        channels, _, _ = expect_map(inputs[0], "conv2d")
        for noun, count in (("input channels", channels), ("filters", self.filters)):
            if count % self.groups:
                nearest = _largest_divisor(gcd(channels, self.filters), self.groups)
                raise ShapeError(
                    f"expected {noun} divisible by groups {self.groups}, got {count}",
                    field="groups",
                    help=f"use groups: {nearest}, or another number of {noun}",
                )
        return (self.filters, *self.windows(inputs[0]).output)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (filters, c/groups, kh, kw) and bias (filters,), or (filters, oh, ow) where it is untied."""
        channels, taps = inputs[0][0] // self.groups, prod(self.kernel_size)
        fans = (channels * taps, self.filters * taps)
        params = {"weight": Parameter((self.filters, channels, *self.kernel_size), self.weight_init, fans, decays=True)}
        if self.bias != "none":
            shape = (self.filters,) if self.bias == "channel" else self.infer_shape(*inputs)
            params["bias"] = Parameter(shape, self.bias_init, fans)
        return params

    def cost(self, *inputs: Shape) -> int:
        """Return filters * c/groups * kh * kw * oh * ow."""
        return prod(self.infer_shape(*inputs)) * inputs[0][0] // self.groups * prod(self.kernel_size)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the buffers of the chosen kernels, by kernel and direction, and the bias gradient's partial sums."""
        problem = self.convolution(inputs[0])
        chosen = cost.choose(problem, n, mode, self.kernel)
        buffers = {
            f"{_part(kernel, direction)}.{name}": buffer
            for direction, kernel in chosen.items()
            for name, buffer in kernel.scratch(problem, n).items()
            if buffer.lifetime != "prepare" or not _finds_prepared(direction, chosen)
        }
        if mode == "train" and self.bias == "channel":
            buffers["bias_rows"] = Buffer((problem.windows.output[0], self.filters), "params")
        return buffers | bias_scratch(self.bias, self.infer_shape(*inputs), n, mode)

    def prepare(self, o: Operands) -> Steps:
        """Bind the transformation of the weights into the forms that the chosen kernels multiply with."""
        problem, chosen, steps = self._problem_of(o.x), self._choice(o), list[Step]()
        for direction, kernel in chosen.items():
            if not _finds_prepared(direction, chosen) and (direction != "input" or o.dx is not None):
                steps += kernel.prepare(problem, o.params["weight"], self._buffers(direction, o))
        return [*steps, *prepare_bias(o)]

    def forward(self, o: Operands) -> Steps:
        """Bind the product of the windows with the weights, and the addition of the bias."""
        product = self._bind("forward", o, o.x, o.params["weight"], o.y)
        return [product, *add_bias(o)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx if it is needed, dweight, and dbias, which is a sum of dy."""
        kernel, problem, buffers = self._choice(o)["weight"], self._problem_of(o.x), self._buffers("weight", o)
        shared = kernel.prepare_gradient(problem, o.dy, buffers)
        params = [self._bind("weight", o, o.x, o.dy, o.grads["weight"])]
        if "bias" in o.grads:
            params.append(bias_gradient(o.dy, o.grads["bias"], o.buffers.get("bias_rows")))
        dx = [] if o.dx is None else [self._bind("input", o, o.dy, o.params["weight"], o.dx)]
        return Backward(dx, params, shared=[join_steps(shared)])

    def _bind(self, direction: Direction, o: Operands, a: Array, b: Array, out: Array) -> Step:
        """Bind one direction as a single step: tiles depend on n, but all shards must have the same number of steps."""
        kernel = self._choice(o)[direction]
        return join_steps(kernel.bind(self._problem_of(o.x), a, b, out, self._buffers(direction, o)))

    def _buffers(self, direction: Direction, o: Operands) -> dict[str, Array]:
        """The buffers of a direction's kernel, and the prepared weights that it shares with the forward pass."""
        chosen = self._choice(o)
        buffers = within(o.buffers, _part(chosen[direction], direction))
        prepared = within(o.buffers, _part(chosen["forward"], "forward")) if _finds_prepared(direction, chosen) else {}
        return prepared | buffers

    def _choice(self, o: Operands) -> Choice:
        return cost.choose(self._problem_of(o.x), o.x.shape[-1], o.mode, self.kernel)

    def convolution(self, *inputs: Shape) -> Problem:
        """Return how the windows lie, and how channels and filters are grouped."""
        shape = inputs[0]
        return Problem(self.windows(shape), shape[0], self.filters, self.groups)

    def _problem_of(self, x: Array) -> Problem:
        return self.convolution(map_shape(x))


def _part(kernel: Kernel, direction: Direction) -> str:
    """The prefix of the names of a kernel's buffers; a joint kernel has one for all directions."""
    return kernel.name if kernel.joint else f"{kernel.name}.{direction}"


def _finds_prepared(direction: Direction, chosen: Choice) -> bool:
    """Whether the input's gradient multiplies with the same form of the weights as the forward pass."""
    return direction == "input" and chosen["input"].prepare == chosen["forward"].prepare


def _largest_divisor(count: int, limit: int) -> int:
    """Return the largest divisor up to a limit; for counts above a million, of those that are found with few trials."""
    tried = range(1, min(isqrt(count), MOST_TRIED) + 1)
    return max(d for small in tried if count % small == 0 for d in (small, count // small) if d <= limit)
