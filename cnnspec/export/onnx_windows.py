"""Convolutions, dense layers and pooling as operators of ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.export.counted_padding import counted_padding
from cnnspec.export.onnx_writer import ModelWriter, Writer
from cnnspec.graph import Node
from cnnspec.kernels.step import Array
from cnnspec.shapes import Windows


def _pads(padding: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = padding
    return [top, left, bottom, right]


def _windows(node: Node) -> dict[str, Any]:
    layer: Any = node.layer
    windows = layer.windows(node.input_shapes[0])
    return {"kernel_shape": windows.kernel, "strides": windows.stride, "pads": _pads(windows.padding)}


def _convolution(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    untied = len(node.params["bias"].shape) == 3 if "bias" in node.params else False
    arrays = [made.parameter(node, "weight")]
    if "bias" in node.params and not untied:
        arrays.append(made.parameter(node, "bias"))
    groups = getattr(layer, "groups", node.input_shapes[0][0])  # depthwise: as many as channels
    name = f"{node.name}.product" if untied else node.name
    made.add("Conv", [*inputs, *arrays], name, **_windows(node), dilations=layer.dilation, group=groups)
    if untied:
        made.add("Add", [name, made.parameter(node, "bias", (1, *node.shape))], node.name)


def _separable(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    depthwise = made.parameter(node, "depthwise")
    groups = node.input_shapes[0][0]
    middle = made.add(
        "Conv",
        [*inputs, depthwise],
        f"{node.name}.middle",
        **_windows(node),
        dilations=layer.dilation,
        group=groups,
    )
    arrays = [made.parameter(node, name) for name in ("pointwise", "bias") if name in node.params]
    made.add("Conv", [middle, *arrays], node.name)


def _transposed(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    arrays = [made.parameter(node, name) for name in ("weight", "bias") if name in node.params]
    made.add(
        "ConvTranspose",
        [*inputs, *arrays],
        node.name,
        **_windows(node),
        dilations=layer.dilation,
        group=layer.groups,
        output_padding=layer.output_padding,
    )


def _dense(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    if "bias" in node.params:
        weight = made.parameter(node, "weight")
        made.add("Gemm", [*inputs, weight, made.parameter(node, "bias")], node.name, transB=1)
        return
    key = node.keys.get("weight", f"{node.name}.weight")
    turned = made.constant(f"{key}.turned", np.asarray(made.values[key], np.float32).T)
    made.add("MatMul", [*inputs, turned], node.name)


def _max_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    made.add("MaxPool", inputs, node.name, **_windows(node))


def _mean(made: ModelWriter, node: Node, source: str, output: str, *, whole: bool) -> None:
    made.add("AveragePool", [source], output, **_windows(node), count_include_pad=int(whole))


def _avg_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    windows, counted = layer.windows(node.input_shapes[0]), counted_padding(node)
    if counted in ((0, 0, 0, 0), windows.padding):
        _mean(made, node, inputs[0], node.name, whole=any(counted))
        return
    _mean(made, node, inputs[0], f"{node.name}.whole", whole=True)
    size = math.prod(windows.kernel) / _counts(windows, counted)
    made.add("Mul", [f"{node.name}.whole", made.constant(f"{node.name}.counts", size.astype(np.float32))], node.name)


def _counts(windows: Windows, counted: Sequence[int]) -> Array:
    """Return how many elements of each window count, (oh, ow)."""
    counts = []
    for axis, length in enumerate((windows.height, windows.width)):
        before, after = counted[2 * axis : 2 * axis + 2]
        starts = np.arange(windows.output[axis]) * windows.stride[axis] - windows.padding[2 * axis]
        ends = np.minimum(starts + windows.kernel[axis], length + after)
        counts.append(ends - np.maximum(starts, -before))
    return np.asarray(counts[0][:, None] * counts[1])


def _lp_pool(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    layer: Any = node.layer
    name, exponent = node.name, made.constant(f"{node.name}.p", np.float32(layer.p))
    made.add("Abs", inputs, f"{name}.magnitude")
    made.add("Pow", [f"{name}.magnitude", exponent], f"{name}.power")
    _mean(made, node, f"{name}.power", f"{name}.mean", whole=False)
    made.add("Pow", [f"{name}.mean", made.constant(f"{name}.inverse", np.float32(1 / layer.p))], name)


def _global(operator: str) -> Writer:
    def write(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
        made.add(operator, inputs, f"{node.name}.map")
        made.add("Flatten", [f"{node.name}.map"], node.name)

    return write


def _adaptive(made: ModelWriter, node: Node, inputs: Sequence[str]) -> None:
    """Write adaptive average pooling as products with two matrices of weights, for rows and for columns."""
    _, height, width = node.input_shapes[0]
    _, rows, columns = node.shape
    name = node.name
    left = made.constant(f"{name}.rows", _bins(height, rows))
    right = made.constant(f"{name}.columns", _bins(width, columns).T)
    made.add("MatMul", [inputs[0], right], f"{name}.narrow")
    made.add("MatMul", [left, f"{name}.narrow"], name)


def _bins(inputs: int, outputs: int) -> Array:
    matrix = np.zeros((outputs, inputs), np.float32)
    for i in range(outputs):
        start, stop = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


WRITERS: Mapping[str, Writer] = {
    "adaptive_avg_pool2d": _adaptive,
    "avg_pool2d": _avg_pool,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "dense": _dense,
    "depthwise_conv2d": _convolution,
    "global_avg_pool2d": _global("GlobalAveragePool"),
    "global_max_pool2d": _global("GlobalMaxPool"),
    "lp_pool2d": _lp_pool,
    "max_pool2d": _max_pool,
    "separable_conv2d": _separable,
}
