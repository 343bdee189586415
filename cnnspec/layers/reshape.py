"""Layers that move elements without changing them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

from cnnspec.fields import PositiveInt
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, expect_map, size, text


class Rearrangement(Layer):
    """Base of layers whose output holds the elements of the input in other places."""

    @abstractmethod
    def views(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return views of an input and of an output in which the same index means the same element."""

    def forward(self, o: Operands) -> Steps:
        """Bind the copy from the one view to the other."""
        source, target = self.views(o.x, o.y)
        return [copy(source, target)]

    def backward(self, o: Operands) -> Backward:
        """Bind the copy from the view of dy to that of dx."""
        if o.dx is None:
            return Backward()
        target, source = self.views(o.dx, o.dy)
        return Backward([copy(source, target)])


def _channels_first(features: Array, like: Shape) -> Array:
    # a view of (c*h*w, n) with the axes of a map, (h, c, w, n)
    if len(like) == 2:
        return features
    h, c, w, n = like
    return features.reshape(c, h, w, n).transpose(1, 0, 2, 3)


@register("flatten")
class Flatten(Rearrangement):
    """A map as a vector of c*h*w features, in the order c, h, w."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c*h*w,), all pixels of all channels in one vector."""
        return (size(inputs[0]),)

    def views(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the map itself, and a view of the vector with the axes of a map."""
        return x, _channels_first(y, x.shape)


@register("reshape")
class Reshape(Layer):
    """The same elements in the order c, h, w, cut into another shape."""

    shape: Annotated[tuple[PositiveInt, ...], "channels, height, width; or features alone"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the declared shape; ShapeError where it holds another number of elements."""
        if len(self.shape) not in (1, 3) or size(self.shape) != size(inputs[0]):
            raise ShapeError(
                f"expected [features] or [channels, height, width] of {size(inputs[0])} elements, "
                f"got {text(self.shape)}",
                field="shape",
                help=f"the input is {text(inputs[0])}",
            )
        return self.shape

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array for the elements in public order, which differs from the order of both arrays."""
        shape = (size(inputs[0]), n)
        return {"features": Buffer(shape), "gradient": Buffer(shape, "input")}

    def forward(self, o: Operands) -> Steps:
        """Bind a copy into public order, and a copy from there to y."""
        features = o.buffers["features"]
        return [copy(o.x, _channels_first(features, o.x.shape)), copy(_channels_first(features, o.y.shape), o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind the same two copies for the gradient."""
        if o.dx is None:
            return Backward()
        gradient = o.buffers["gradient"]
        return Backward(
            [copy(o.dy, _channels_first(gradient, o.dy.shape)), copy(_channels_first(gradient, o.dx.shape), o.dx)]
        )


@register("channel_shuffle")
class ChannelShuffle(Rearrangement):
    """Deals the channels of `groups` groups out in turn: (groups, c/groups) transposed (Zhang et al. 2017)."""

    row_reads = "elementwise"

    groups: Annotated[PositiveInt, "groups that the channels come in"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape; ShapeError where groups do not divide the channels."""
        channels, _, _ = expect_map(inputs[0], self.type_name)
        if channels % self.groups:
            raise ShapeError(
                f"expected a number of groups that divides {channels} channels, got {self.groups}", field="groups"
            )
        return inputs[0]

    def views(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return both as (h, groups, c/groups, w, n)."""
        h, c, w, n = x.shape
        each = c // self.groups
        return x.reshape(h, self.groups, each, w, n), y.reshape(h, each, self.groups, w, n).swapaxes(1, 2)


@register("pixel_shuffle")
class PixelShuffle(Rearrangement):
    """Channels become pixels: (c r^2, h, w) -> (c, r h, r w), y[c, r h + i, r w + j] = x[c r^2 + r i + j, h, w].

    Source: Shi et al. (2016); ONNX's DepthToSpace in mode CRD.
    """

    factor: Annotated[PositiveInt, "r: how many times higher and wider the map becomes"]

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c / r^2, r h, r w); ShapeError where r^2 does not divide the channels."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        if channels % self.factor**2:
            raise ShapeError(
                f"expected a factor whose square divides {channels} channels, got {self.factor}", field="factor"
            )
        return (channels // self.factor**2, height * self.factor, width * self.factor)

    def views(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return both as (h, c, i, j, w, n)."""
        h, _, w, n = x.shape
        c, r = y.shape[1], self.factor
        return x.reshape(h, c, r, r, w, n), y.reshape(h, r, c, w, r, n).transpose(0, 2, 1, 4, 3, 5)
