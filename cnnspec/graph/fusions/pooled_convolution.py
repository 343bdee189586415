"""A first convolution fused with the 2x2 max pooling behind it; its even and odd columns are computed apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from cnnspec.graph.node import INPUT, Graph, Node
from cnnspec.kernels import direct, pooled_convolution, pooling
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step, join_steps
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, map_shape, within
from cnnspec.layers.bias import add_bias, bias_gradient, bias_scratch, prepare_bias
from cnnspec.shapes import Shape, Windows

KERNELS = {"forward": direct.FORWARD, "weight": direct.WEIGHT}
KERNEL = direct.FORWARD.name


def pooling_in_convolution(graph: Graph) -> Graph:
    """Fuse the first convolution with the 2x2 max pooling behind it, if nothing else reads the convolution.

    Maxima and gradients stay the same, unless the addition of the bias rounds two numbers of a window to one.
    """
    sharing = graph.sharing
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        first = nodes[-1] if nodes else None
        if (
            first is not None
            and first.inputs == (INPUT,)
            and first.name not in sharing
            and graph.consumers(first.name) == (node,)
            and graph.output_name not in (first.name, node.name)
            and can_pool(first.layer, node.layer, first.input_shapes[0])
        ):
            nodes[-1] = dataclasses.replace(first, layer=PooledConvolution(first.layer), shape=node.shape)
            renamed[node.name] = first.name
        else:
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            nodes.append(dataclasses.replace(node, inputs=inputs))
    return dataclasses.replace(graph, nodes=tuple(nodes))


def can_pool(first: Layer, second: Layer, shape: Shape) -> bool:
    """Whether 2x2 windows cover the output of a direct convolution of maps of this shape, with one bias a filter.

    It is direct if the spec says so or maps have one channel: with more, other algorithms multiply less.
    """
    if not first.convolves or not second.selects_maximum or second.covers_map:
        return False
    convolution, pool = cast(Any, first), cast(Any, second)
    windows, kernel = convolution.windows(shape), getattr(convolution, "kernel", None)
    return (
        (kernel == KERNEL or (kernel is None and shape[0] == 1))
        and windows.stride == windows.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.bias != "untied"
        and pooling.is_halving(pool.windows(first.infer_shape(shape)))
        and not any(length % 2 for length in windows.output)
    )


class PooledConvolution(Layer):
    """y[f,i,j] = b[f] + max over u, v in {0, 1} of (w x)[f, 2i + u, 2j + v].

    Neighbouring columns are two filters of one convolution of stride 2 along the width, the second with its taps one
    column to the right: as products are as wide, fewer columns are expanded, and pooling compares whole rows. At
    inference a single image of one channel is one product (`kernels.pooled_convolution`). Passes add it, specs do not.
    """

    first: Any

    retains = frozenset({"x"})
    row_reads = "windows"

    def __init__(self, first: Layer) -> None:
        for name, value in {"first": first, "type_name": f"{first.type_name}+max_pool2d"}.items():
            object.__setattr__(self, name, value)

    @property
    def kernel(self) -> str:
        """The algorithm of both directions."""
        return KERNEL

    def but(self, **changes: Any) -> PooledConvolution:
        """Return this fusion for a convolution with some fields changed."""
        return PooledConvolution(self.first.but(**changes))

    def windows(self, shape: Shape) -> Windows:
        """Return the windows of the input that each output depends on: those of the four pixels that it pools."""
        windows: Windows = self.first.windows(shape)
        return dataclasses.replace(windows, kernel=(windows.kernel[0] + 1, windows.kernel[1] + 1), stride=(2, 2))

    def convolution(self, *inputs: Shape) -> Problem:
        """Return the convolution problem of the pairs of filters: one column wider, with a stride of two columns."""
        windows: Windows = self.first.windows(inputs[0])
        pairs = dataclasses.replace(windows, kernel=(windows.kernel[0], windows.kernel[1] + 1), stride=(1, 2))
        return Problem(pairs, inputs[0][0], 2 * self.first.filters, 1)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (filters, oh / 2, ow / 2)."""
        return (self.first.filters, *self.windows(inputs[0]).output)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the buffers of the kernels, the pairs of filters, the map that is pooled, and the winners' marks."""
        problem, (filters, rows, columns) = self.convolution(*inputs), self.infer_shape(*inputs)
        if mode == "infer" and n == problem.channels == 1:
            return pooled_convolution.scratch(self.first.convolution(*inputs))
        taps = (problem.filters, problem.channels, *problem.windows.kernel)
        whole, side = (2 * rows, problem.filters, columns, n), (rows, 2, filters, columns, n)
        buffers = {"pairs": Buffer(taps, "prepare"), "map": Buffer(whole)}
        if mode == "train":
            buffers |= {"right": Buffer(side, "kept", bool), "below": Buffer((rows, *side[2:]), "kept", bool)}
            buffers |= {"map_gradient": Buffer(whole, "params"), "pairs_gradient": Buffer(taps, "params")}
            buffers |= {"bias_rows": Buffer((rows, filters), "params")}
        for direction, kernel in KERNELS.items():
            if direction == "forward" or mode == "train":
                buffers |= {f"{direction}.{name}": buffer for name, buffer in kernel.scratch(problem, n).items()}
        return buffers | bias_scratch(self.first.bias, (filters, rows, columns), n, mode)

    def prepare(self, o: Operands) -> Steps:
        """Bind the making and preparation of the pairs of filters, or of the filters of a window's four places."""
        weight = o.params["weight"]
        if "places" in o.buffers:
            problem = self.first.convolution(map_shape(o.x))
            return [pooled_convolution.prepare(problem, weight, o.params.get("bias", 0.0), o.buffers)]
        pairs = o.buffers["pairs"]
        left, right = _sides(pairs, weight)

        def pair() -> None:
            pairs.fill(0)
            np.copyto(left, weight)
            np.copyto(right, weight)

        packed = KERNELS["forward"].prepare(self._problem_of(o.x), pairs, within(o.buffers, "forward"))
        return [pair, *packed, *prepare_bias(o)]

    def forward(self, o: Operands) -> Steps:
        """Bind the convolution, the maxima of its map, and the addition of the bias."""
        if "places" in o.buffers:
            return pooled_convolution.forward(self.first.convolution(map_shape(o.x)), o.x, o.y, o.buffers)
        whole = o.buffers["map"]
        pool = _tournament(whole, o.y, o.buffers) if o.mode == "train" else _maxima(whole, o.y)
        return [self._bind("forward", o, o.x, o.buffers["pairs"], whole), pool, *add_bias(o)]

    def backward(self, o: Operands) -> Backward:
        """Bind the gradient of the map, which is dy at the winners; a filter's gradient is the sum over its pair."""
        dy, whole, pairs, dweight = o.dy, o.buffers["map_gradient"], o.buffers["pairs_gradient"], o.grads["weight"]
        right_won, below = o.buffers["right"], o.buffers["below"]
        left, right = _columns(whole, len(dy))
        upper, lower = left[:, 0], left[:, 1]
        of_left, of_right = _sides(pairs, dweight)

        def spread() -> None:
            np.multiply(dy, below, out=lower)
            np.subtract(dy, lower, out=upper)
            np.multiply(left, right_won, out=right)
            np.subtract(left, right, out=left)

        add = partial(np.add, of_left, of_right, dweight)
        params: list[Step] = [spread, self._bind("weight", o, o.x, whole, pairs), add]
        if "bias" in o.grads:
            params.append(bias_gradient(dy, o.grads["bias"], o.buffers["bias_rows"]))
        return Backward(params=params)

    def _bind(self, direction: str, o: Operands, a: Array, b: Array, out: Array) -> Step:
        return join_steps(KERNELS[direction].bind(self._problem_of(o.x), a, b, out, within(o.buffers, direction)))

    def _problem_of(self, x: Array) -> Problem:
        return self.convolution(map_shape(x))


def _sides(pairs: Array, weight: Array) -> tuple[Array, Array]:
    """Views of the filters' taps in both filters of each pair: for an even column, and for the odd one behind it."""
    filters, width = len(weight), weight.shape[-1]
    return pairs[:filters, ..., :width], pairs[filters:, ..., 1:]


def _maxima(whole: Array, y: Array) -> Step:
    """Bind y = the largest of two rows and two columns, which lie in memory as four runs of equal length."""
    return partial(np.maximum.reduce, whole.reshape(len(y), 4, -1), 1, None, y.reshape(len(y), -1))


def _tournament(whole: Array, y: Array, marks: Mapping[str, Array]) -> Step:
    """Bind the maxima of neighbouring columns, and of rows, with marks of the winners; of equals the first wins."""
    left, right = _columns(whole, len(y))
    upper, lower = left[:, 0], left[:, 1]
    right_won, below = marks["right"], marks["below"]

    def pool() -> None:
        np.greater(right, left, out=right_won)
        np.maximum(left, right, out=left)
        np.greater(lower, upper, out=below)
        np.maximum(upper, lower, out=y)

    return pool


def _columns(whole: Array, rows: int) -> tuple[Array, Array]:
    """The even and odd columns of a map (2 * rows, 2 * filters, columns, n), views (rows, 2, filters, columns, n)."""
    _, both, columns, n = whole.shape
    by_pairs = whole.reshape(rows, 2, both, columns, n)
    return by_pairs[:, :, : both // 2], by_pairs[:, :, both // 2 :]
