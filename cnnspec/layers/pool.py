"""Pooling: each output summarises one window of one channel, or a whole channel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import AtLeastOne, Padding, Pair
from cnnspec.kernels import pooling, taps
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, RowReads, Steps, batch_shape, map_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, Windows, expect_map, windows


class Pool2d(Layer):
    """Windows over a map, each reduced to one number; (c, h, w) -> (c, oh, ow).

    `padding: same` gives ceil(h / stride) rows as TensorFlow does, an odd one of padding at the end (`same_lower`: at
    the beginning); `half` pads by half a kernel whatever the stride, as PyTorch's users do. With `ceil_mode` a last
    window may hang over the end, as long as it starts inside the map or the padding before it.
    """

    kernel_size: Annotated[Pair, "rows and columns of a window"]
    stride: Annotated[Pair | None, "rows and columns between windows; the kernel size unless given"] = None
    padding: Annotated[Padding, "rows and columns around the map, which no window counts"] = "valid"
    ceil_mode: Annotated[bool, "round the number of windows up instead of down"] = False

    @property
    def row_reads(self) -> RowReads | None:  # type: ignore[override]
        """The declaration "windows"; None with `ceil_mode`: a part would take the overhang of a window for padding."""
        return None if self.ceil_mode else "windows"

    def windows(self, shape: Shape) -> Windows:
        """Return how the windows lie; ShapeError if none fits, or if one could lie in the padding alone."""
        windows = self._windows_over(shape, ceil=False)
        top, bottom, left, right = windows.padding
        kh, kw = windows.kernel
        if max(top, bottom) >= kh or max(left, right) >= kw:
            raise ShapeError(
                f"expected padding smaller than the {kh}x{kw} kernel, got {self.padding}",
                field="padding",
                help="a window must hold at least one element of the map",
            )
        return self._windows_over(shape, ceil=True) if self.ceil_mode else windows

    def _windows_over(self, shape: Shape, *, ceil: bool) -> Windows:
        return windows(
            shape,
            self.type_name,
            kernel=self.kernel_size,
            stride=self.stride or self.kernel_size,
            padding=self.padding,
            ceil=ceil,
        )

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c, oh, ow)."""
        return (inputs[0][0], *self.windows(inputs[0]).output)


def _windows_of(layer: Pool2d, x: Array) -> Windows:
    return layer.windows(map_shape(x))


@register("max_pool2d")
class MaxPool2d(Pool2d):
    """y = max of each window; its gradient goes to one winner, the first of equals in row-major order."""

    selects_maximum: ClassVar[bool] = True

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the arrays of the kernel, and in training the marks of the windows' winners, kept for backward."""
        windows = self.windows(inputs[0])
        kind = pooling.halving_scratch if pooling.is_halving(windows) else pooling.maximum_scratch
        return kind(windows, inputs[0][0], n, train=mode == "train")

    def forward(self, o: Operands) -> Steps:
        """Bind the maxima, and in training the marks of the winners."""
        windows = _windows_of(self, o.x)
        if pooling.is_halving(windows):
            return pooling.halving_maximum(windows, o.x, o.y, o.buffers)
        return pooling.maximum(windows, o.x, o.y, o.buffers)

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy at the winners, 0 elsewhere."""
        if o.dx is None:
            return Backward()
        windows = _windows_of(self, o.dx)
        if pooling.is_halving(windows):
            return Backward(input=pooling.halving_gradient(windows, o.dy, o.dx, o.buffers))
        return Backward(input=pooling.maximum_gradient(windows, o.dy, o.dx, o.buffers))


@register("avg_pool2d")
class AvgPool2d(Pool2d):
    """y = mean of each window, over its elements in the map, or with `count_include_pad` also those in the padding."""

    count_include_pad: Annotated[bool, "divide by the whole window, not only by its elements in the map"] = False

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return an array for the contribution of each output to dx."""
        return {"share": Buffer(batch_shape(self.infer_shape(*inputs), n), "input")} if mode == "train" else {}

    def forward(self, o: Operands) -> Steps:
        """Bind the sum of each window, divided by the number of its elements."""
        windows, y = _windows_of(self, o.x), o.y
        inverse = pooling.inverse_counts(windows, y.dtype, self._counted(o.x))
        return [*pooling.window_sums(windows, o.x, y), partial(np.multiply, y, inverse, y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = the sum of dy / count over the windows that hold an element."""
        if o.dx is None:
            return Backward()
        windows, dy, share = _windows_of(self, o.dx), o.dy, o.buffers["share"]
        inverse = pooling.inverse_counts(windows, dy.dtype, self._counted(o.dx))
        return Backward(input=[partial(np.multiply, dy, inverse, share), *pooling.spread(windows, share, o.dx)])

    def _counted(self, x: Array) -> tuple[int, int, int, int]:
        """The padding that counts as elements of a window: none, or all of it without the part that ceil_mode adds."""
        return self._windows_over(map_shape(x), ceil=False).padding if self.count_include_pad else (0, 0, 0, 0)


@register("lp_pool2d")
class LpPool2d(Pool2d):
    """y = (sum |x|^p / |P|)^(1/p) over each window P, whose padding does not count; p = 1 is the mean of |x|.

    Powers are of |x| / m, m the largest of the window: neither small nor large numbers leave the range of the type.
    ONNX's LpPool is the same without the division by |P|. The gradient at x = 0 is 0.
    """

    p: Annotated[AtLeastOne, "exponent: 1 is the mean of magnitudes, larger ones come closer to their maximum"] = 2.0
    retains: ClassVar[frozenset[str]] = frozenset({"x", "y"})

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return magnitudes, the largest of each window and powers; in training also the factors of the gradient."""
        x, y = batch_shape(inputs[0], n), batch_shape(self.infer_shape(*inputs), n)
        forward = {"magnitudes": Buffer(x), "largest": Buffer(y), "powers": Buffer(y)}
        backward = {name: Buffer(y, "input") for name in ("share", "ratio", "scale")}
        return forward | backward | {"signs": Buffer(x, "input")} if mode == "train" else forward

    def forward(self, o: Operands) -> Steps:
        """Bind y = m times the root of the mean of the powers of |x| / m."""
        windows, x, y, p = _windows_of(self, o.x), o.x, o.y, self.p
        inverse = pooling.inverse_counts(windows, y.dtype, (0, 0, 0, 0))
        magnitudes, largest, powers = (o.buffers[name] for name in ("magnitudes", "largest", "powers"))
        smallest = np.finfo(y.dtype).tiny  # instead of 0, in a window of zeros
        passes = [
            (magnitudes[tap.read], *(array[tap.write] for array in (largest, powers, y))) for tap in taps.taps(windows)
        ]

        def step() -> None:
            np.absolute(x, out=magnitudes)
            largest.fill(smallest)
            for element, most, _, _ in passes:
                np.maximum(most, element, out=most)
            y.fill(0)
            for element, most, power, total in passes:
                np.divide(element, most, out=power)
                np.power(power, p, out=power)
                np.add(total, power, out=total)
            np.multiply(y, inverse, out=y)
            np.power(y, 1 / p, out=y)
            np.multiply(y, largest, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = sum over windows of dy (|x| / y)^(p-1) sign(x) / |P|."""
        if o.dx is None:
            return Backward()
        windows, x, y, dy, dx, p = _windows_of(self, o.x), o.x, o.y, o.dy, o.dx, self.p
        inverse = pooling.inverse_counts(windows, y.dtype, (0, 0, 0, 0))
        share, ratio, scale, signs = (o.buffers[name] for name in ("share", "ratio", "scale", "signs"))
        smallest = np.finfo(y.dtype).tiny  # |x| is at most |P|^(1/p) y, so where y is 0 the ratio is at most 1
        passes = [
            (x[tap.read], dx[tap.read], *(array[tap.write] for array in (share, ratio, scale)))
            for tap in taps.taps(windows)
        ]

        def step() -> None:
            dx.fill(0)
            np.multiply(dy, inverse, out=share)
            np.maximum(y, smallest, out=scale)
            for element, target, gradient, part, size in passes:
                np.absolute(element, out=part)
                np.divide(part, size, out=part)
                np.power(part, p - 1, out=part)
                np.multiply(part, gradient, out=part)
                np.add(target, part, out=target)
            np.sign(x, out=signs)
            np.multiply(dx, signs, out=dx)

        return Backward(input=[step])


@register("global_avg_pool2d")
class GlobalAvgPool2d(Layer):
    """y_c = mean of channel c: a map (c, h, w) becomes a vector (c,) (Lin, Chen and Yan 2013)."""

    covers_map = True

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c,), one number for each channel."""
        return expect_map(inputs[0], self.type_name)[:1]

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the sums over rows."""
        c, _, w = inputs[0]
        return {"columns": Buffer((c, w, n))}

    def forward(self, o: Operands) -> Steps:
        """Bind the sum over rows, which are long contiguous runs, and the mean of these sums."""
        x, y, columns = o.x, o.y, o.buffers["columns"]
        scale = 1 / (x.shape[0] * x.shape[2])

        def step() -> None:
            np.add.reduce(x, axis=0, out=columns)
            np.add.reduce(columns, axis=1, out=y)
            np.multiply(y, scale, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy / (h w) for every pixel of the channel."""
        if o.dx is None:
            return Backward()
        dx, dy = o.dx, o.dy.reshape(1, o.dy.shape[0], 1, o.dy.shape[1])
        return Backward(input=[partial(np.multiply, dy, 1 / (dx.shape[0] * dx.shape[2]), dx)])


@register("global_max_pool2d")
class GlobalMaxPool2d(Layer):
    """y_c = max of channel c: a map (c, h, w) becomes a vector (c,); its gradient goes to the first of equals."""

    covers_map = True
    retains: ClassVar[frozenset[str]] = frozenset({"x"})
    selects_maximum: ClassVar[bool] = True

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (c,), one number for each channel."""
        return expect_map(inputs[0], self.type_name)[:1]

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the maxima over rows; in training also each channel's pixels in one row, and the places of winners."""
        c, h, w = inputs[0]
        buffers = {"columns": Buffer((c, w, n))}
        if mode == "train":
            buffers |= {"pixels": Buffer((c, n, h, w), "input")}
            buffers |= {name: Buffer((c, n), "input", np.intp) for name in ("row", "column")}
        return buffers

    def forward(self, o: Operands) -> Steps:
        """Bind the maximum over rows, which are long contiguous runs, and the maximum of these over columns."""
        x, y, columns = o.x, o.y, o.buffers["columns"]

        def step() -> None:
            np.maximum.reduce(x, axis=0, out=columns)
            np.maximum.reduce(columns, axis=1, out=y)

        return [step]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy at the winner of each channel, 0 elsewhere."""
        if o.dx is None:
            return Backward()
        x, dy, dx = o.x.transpose(1, 3, 0, 2), o.dy.reshape(-1), o.dx.reshape(-1)
        pixels, row, column = (o.buffers[name] for name in ("pixels", "row", "column"))
        c, n, _, width = pixels.shape
        flat, place = pixels.reshape(c, n, -1), row.reshape(-1)
        start = np.arange(c)[:, None] * (width * n) + np.arange(n)  # place of (channel, image) in a row of (c, w, n)

        def step() -> None:
            np.copyto(pixels, x)
            np.argmax(flat, axis=-1, out=row)
            np.divmod(row, width, out=(row, column))
            np.multiply(row, c * width * n, out=row)
            np.multiply(column, n, out=column)
            np.add(row, column, out=row)
            np.add(row, start, out=row)
            dx.fill(0)
            dx[place] = dy

        return Backward(input=[step])


@register("channel_mean")
class ChannelMean(Layer):
    """y[i, j] = mean of x[c, i, j] over the channels: (c, h, w) -> (1, h, w). Source: Woo et al., "CBAM" (2018)."""

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (1, h, w)."""
        return (1, *expect_map(inputs[0], self.type_name)[1:])

    def forward(self, o: Operands) -> Steps:
        """Bind the sum over the channels, divided by their number."""
        count = o.x.shape[1]
        return [partial(np.add.reduce, o.x, 1, None, o.y, True), partial(np.multiply, o.y, 1 / count, o.y)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy / c, in every channel."""
        return Backward() if o.dx is None else Backward([partial(np.multiply, o.dy, 1 / o.dx.shape[1], o.dx)])


@register("channel_max")
class ChannelMax(Layer):
    """y[i, j] = max of x[c, i, j] over the channels: (c, h, w) -> (1, h, w); its gradient goes to the first of equals.

    Source: Woo et al., "CBAM: Convolutional block attention module" (2018).
    """

    retains: ClassVar[frozenset[str]] = frozenset({"x", "y"})

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (1, h, w)."""
        return (1, *expect_map(inputs[0], self.type_name)[1:])

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return masks for the gradient: the places where a channel is the largest, and where none before it was."""
        shape = batch_shape(self.infer_shape(*inputs), n)
        return {name: Buffer(shape, "input", bool) for name in ("equal", "open")} if mode == "train" else {}

    def forward(self, o: Operands) -> Steps:
        """Bind the maximum over the channels."""
        return [partial(np.maximum.reduce, o.x, 1, None, o.y, True)]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = dy in the first channel that is the largest, 0 elsewhere."""
        if o.dx is None:
            return Backward()
        y, dy, equal, still = o.y, o.dy, o.buffers["equal"], o.buffers["open"]
        channels = [(o.x[:, c : c + 1], o.dx[:, c : c + 1]) for c in range(o.x.shape[1])]

        def step() -> None:
            still.fill(True)
            for x, dx in channels:
                np.equal(x, y, out=equal)
                np.logical_and(equal, still, out=equal)
                np.multiply(dy, equal, out=dx)
                np.greater(still, equal, out=still)

        return Backward([step])
