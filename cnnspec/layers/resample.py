"""Layers that resample a map: each output row is a weighted sum of input rows, each output column of input columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np

from cnnspec.fields import Pair
from cnnspec.kernels import separable
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps
from cnnspec.registry import register
from cnnspec.shapes import Shape, expect_map


class Resampling(Layer):
    """Base of layers that resample; a subclass gives the size of the output and the weights along an axis."""

    @abstractmethod
    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output for those of the input."""

    @abstractmethod
    def weights(self, outputs: int, inputs: int) -> Array:
        """Return the weight of each input in each output along one axis, (outputs, inputs)."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c, oh, ow)."""
        channels, height, width = expect_map(inputs[0], self.type_name)
        return (channels, *self.size(height, width))

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the map between both products, with resampled rows, and in training its gradient."""
        channels, _, width = inputs[0]
        shape = (self.infer_shape(*inputs)[1], channels, width, n)
        buffers = {"middle": Buffer(shape)}
        return buffers | {"middle_gradient": Buffer(shape, "input")} if mode == "train" else buffers

    def forward(self, o: Operands) -> Steps:
        """Bind the resampling of rows, and of the columns of the result."""
        down, across = self._matrices(o.x, o.y)
        return separable.separable(down, across, o.x, o.buffers["middle"], o.y)

    def backward(self, o: Operands) -> Backward:
        """Bind the same products with transposed weights, columns first."""
        if o.dx is None:
            return Backward()
        down, across = self._matrices(o.dx, o.dy)
        return Backward(separable.separable_transposed(down, across, o.dy, o.buffers["middle_gradient"], o.dx))

    def _matrices(self, x: Array, y: Array) -> tuple[Array, Array]:
        (h, _, w, _), (oh, _, ow, _) = x.shape, y.shape
        return self.weights(oh, h).astype(x.dtype), self.weights(ow, w).astype(x.dtype)


@register("adaptive_avg_pool2d")
class AdaptiveAvgPool2d(Resampling):
    """The mean of each of oh x ow bins: rows floor(i h / oh) to ceil((i + 1) h / oh), as PyTorch cuts them."""

    output_size: Annotated[Pair, "rows and columns of the output"]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the declared size."""
        return self.output_size

    def weights(self, outputs: int, inputs: int) -> Array:
        """Return 1 / length inside each bin."""
        weights = np.zeros((outputs, inputs))
        for i in range(outputs):
            first, last = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
            weights[i, first:last] = 1 / (last - first)
        return weights


@register("upsample2d")
class Upsample2d(Resampling):
    """A larger map: every pixel repeated, or with `mode: bilinear` a straight line between the pixels' centres.

    Output i lies at (i + 1/2) / scale - 1/2 (half-pixel centres, as PyTorch with align_corners off and ONNX have it);
    beyond the outermost centres the edge continues.
    """

    scale: Annotated[Pair, "how many times higher and wider"] = (2, 2)
    mode: Annotated[Literal["nearest", "bilinear"], "what lies between the pixels"] = "nearest"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size times the scale."""
        return height * self.scale[0], width * self.scale[1]

    def weights(self, outputs: int, inputs: int) -> Array:
        """Return 1 at the nearest pixel, or two weights that add up to 1."""
        places = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
        if self.mode == "nearest":
            places = np.rint(places)
        distances = np.abs(np.clip(places, 0, inputs - 1)[:, None] - np.arange(inputs))
        return np.asarray(np.maximum(1 - distances, 0))
