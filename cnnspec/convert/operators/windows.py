"""Translates convolutions, dense layers and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.rearranging import picked
from cnnspec.convert.operators.translator import Translator, pair, refuse_unless, weights
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array
from cnnspec.shapes import ShapeError, windows

NAMED = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
LEFT_OVER = "its windows leave rows or columns over, which programs cut off at different ends with auto_pad"


def _window_fields(operator: Operator, value: Value, kernel: list[int], *, pool: bool = False) -> dict[str, Any]:
    """Return kernel, stride, padding and dilation as fields of a layer, without defaults."""
    rank = len(value.lengths) - 2
    attributes = operator.attributes
    stride = pair(attributes.get("strides"), rank, 1)
    dilation = pair(attributes.get("dilations"), rank, 1)
    fields: dict[str, Any] = {"kernel_size": _short(kernel)}
    if stride != (kernel if pool else [1, 1]):
        fields["stride"] = _short(stride)
    named = attributes.get("auto_pad", "NOTSET")
    if named in NAMED:
        padding: Any = NAMED[named]
        refuse_unless(named == "VALID" or _reached(value, kernel, stride, dilation, pool=pool), LEFT_OVER, "pads")
    else:
        padding = _padding(list(attributes.get("pads") or [0] * (2 * rank)), rank, value, kernel, stride, dilation)
    if padding != "valid":
        fields["padding"] = padding
    if dilation != [1, 1]:
        fields["dilation"] = _short(dilation)
    return fields


def _reached(value: Value, kernel: list[int], stride: list[int], dilation: list[int], *, pool: bool) -> bool:
    """Tell whether windows with auto_pad lie at the same rows in every program.

    Where fewer rows are needed than there are, programs cut them off at different ends; convolutions that need one row
    less begin at the first row everywhere.
    """
    spare = 0 if pool else 1
    return all(
        (-(-length // step) - 1) * step + gap * (size - 1) + 1 + spare >= length
        for length, size, step, gap in zip(value.shape[1:], kernel, stride, dilation, strict=True)
    )


def _padding(
    pads: list[int], rank: int, value: Value, kernel: list[int], stride: list[int], dilation: list[int]
) -> Any:
    refuse_unless(len(pads) == 2 * rank, f"expected {2 * rank} pads, got {pads}")
    refuse_unless(min(pads) >= 0, f"its padding is negative: {pads}", "crop2d in front of it")
    sides = [*([0, 0] if rank == 1 else [pads[0], pads[2]]), pads[rank - 1], pads[2 * rank - 1]]
    if not any(sides):
        return "valid"
    uneven = sides[0] != sides[1] or sides[2] != sides[3]
    for named in ("same", "same_lower") if uneven else ("same",) if stride == [1, 1] else ():
        placed = windows(
            value.shape,
            "",
            kernel=(kernel[0], kernel[1]),
            padding=named,
            stride=(stride[0], stride[1]),
            dilation=(dilation[0], dilation[1]),
        )
        if list(placed.padding) == sides:
            return named
    return sides if uneven else _short([sides[0], sides[2]])


def _short(lengths: list[int]) -> Any:
    return lengths[0] if lengths[0] == lengths[1] else lengths


def _kernel(operator: Operator, value: Value, weight: Array | None = None) -> list[int]:
    rank = len(value.lengths) - 2
    if weight is not None:
        refuse_unless(weight.ndim == rank + 2, f"its weight has {weight.ndim} axes, the map {rank + 2}")
        kernel = list(weight.shape[2:])
        refuse_unless(
            list(operator.attributes.get("kernel_shape") or kernel) == kernel, "kernel_shape is not the weight's"
        )
    else:
        kernel = list(operator.attributes.get("kernel_shape") or ())
    lengths = pair(kernel, rank, 1)
    refuse_unless(min(lengths) > 0, f"its kernel is {kernel}")
    return lengths


def _convolution(made: Network, operator: Operator) -> None:
    value = made.map(operator)
    weight, bias = weights(made, operator)
    kernel = _kernel(operator, value, weight)
    groups, channels = int(operator.attributes.get("group", 1)), value.shape[0]
    fields = _window_fields(operator, value, kernel)
    refuse_unless(groups > 0 and weight.shape[0] > 0, f"it has {groups} groups and {weight.shape[0]} filters")
    depthwise = groups == channels > 1 and weight.shape[0] % channels == 0
    arrays = {"weight": weight.reshape(weight.shape[0], weight.shape[1], *kernel)}
    if depthwise:
        multiplier = weight.shape[0] // channels
        fields |= {"multiplier": multiplier} if multiplier > 1 else {}
    else:
        fields = {"filters": weight.shape[0], **fields, **({"groups": groups} if groups > 1 else {})}
    if bias is None:
        fields["bias"] = "none"
    else:
        arrays["bias"] = bias
    made.write(operator, made.add(operator, "depthwise_conv2d" if depthwise else "conv2d", [value], fields, arrays))


def _transposed(made: Network, operator: Operator) -> None:
    value = made.map(operator)
    weight, bias = weights(made, operator)
    kernel, rank = _kernel(operator, value, weight), len(value.lengths) - 2
    groups = int(operator.attributes.get("group", 1))
    attributes = operator.attributes
    ends = pair(attributes.get("output_padding"), rank, 0, rows=0)
    fields = {"filters": weight.shape[1] * groups, **_window_fields(operator, value, kernel)}
    lengths = made.lengths(operator)
    if attributes.get("output_shape") or attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        stride, dilation = pair(attributes.get("strides"), rank, 1), pair(attributes.get("dilations"), rank, 1)
        wanted = pair(lengths[2:], rank, 1)
        sides = []
        for axis in range(2):
            full = (value.shape[axis + 1] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 + ends[axis]
            cut = full - wanted[axis]
            if cut < 0:
                ends[axis], cut = ends[axis] - cut, 0
            less, more = cut // 2, cut - cut // 2
            sides += [less, more] if attributes.get("auto_pad") == "SAME_UPPER" else [more, less]
        fields["padding"] = sides
    fields |= {"output_padding": _short(ends)} if any(ends) else {}
    fields |= {"groups": groups} if groups > 1 else {}
    fields |= {"bias": "none"} if bias is None else {}
    arrays = {"weight": weight.reshape(*weight.shape[:2], *kernel), **({} if bias is None else {"bias": bias})}
    made.write(operator, made.add(operator, "conv_transpose2d", [value], fields, arrays))


def _dense(made: Network, operator: Operator) -> None:
    """Translate Gemm, alpha x W + beta C, with W transposed if transB is set; a C that is no bias is added."""
    attributes = operator.attributes
    if len(operator.inputs) > 2 and not made.is_constant(operator, 2) and attributes.get("beta", 1.0) == 1:
        product = replace(operator, inputs=operator.inputs[:2])
        _dense(made, product)
        made.write(operator, made.add(operator, "add", [made.values[operator.output], made.read(operator, 2)]))
        return
    weight, bias = weights(made, operator)
    refuse_unless(not attributes.get("transA", 0), "it transposes the images", "transA: 0")
    refuse_unless(weight.ndim == 2, f"its weight has {weight.ndim} axes")
    value = made.read(operator)
    refuse_unless(len(value.lengths) == 2, f"it reads {len(value.lengths)} axes, not two")
    value = made.canonical(operator, value)
    turned = weight if attributes.get("transB", 0) else weight.T
    alpha = attributes.get("alpha", 1.0)
    arrays = {"weight": turned if alpha == 1 else np.float32(alpha) * turned}
    fields: dict[str, Any] = {"units": turned.shape[0]}
    if bias is None:
        fields["bias"] = "none"
    else:
        refuse_unless(bias.size in (1, turned.shape[0]), f"its third input has {bias.size} numbers")
        arrays["bias"] = np.float32(attributes.get("beta", 1.0)) * np.broadcast_to(bias, turned.shape[:1])
    made.write(operator, made.add(operator, "dense", [value], fields, arrays))


def _pool(type: str, made: Network, operator: Operator) -> None:
    value = made.map(operator)
    refuse_unless(len([name for name in operator.outputs if name]) == 1, "it also gives the places of the maxima")
    kernel = _kernel(operator, value)
    fields = _window_fields(operator, value, kernel, pool=True)
    if fields == {"kernel_size": 1}:
        made.write(operator, value)  # each window is one number
        return
    if "dilation" in fields and type == "max_pool2d":
        made.write(operator, _maximum_of_taps(made, operator, value, kernel, fields))
        return
    refuse_unless("dilation" not in fields, "its windows have gaps: dilations", "dilations of 1")
    if operator.attributes.get("ceil_mode"):
        fields["ceil_mode"] = True
    if type == "avg_pool2d" and operator.attributes.get("count_include_pad") and fields.get("padding"):
        fields["count_include_pad"] = True
    made.write(operator, made.add(operator, type, [value], fields))


def _maximum_of_taps(
    made: Network, operator: Operator, value: Value, kernel: list[int], fields: Mapping[str, Any]
) -> Value:
    """Translate dilated max pooling: along each axis the maximum of one slice for each tap of the window.

    A tap in the padding is replaced by another tap of the same window, which leaves the maximum as it is.
    """
    stride, dilation = (_both(fields.get(name, usual)) for name, usual in (("stride", kernel), ("dilation", 1)))
    given = fields.get("padding", "valid")
    named = operator.attributes.get("auto_pad", "NOTSET").startswith("SAME")
    refuse_unless(not named, "programs lay windows with gaps and auto_pad differently", "pads")
    padding = tuple(given) if isinstance(given, list) else given
    try:
        placed = windows(
            value.shape, "", kernel=(kernel[0], kernel[1]), padding=padding, stride=stride, dilation=dilation
        )
    except ShapeError as error:
        raise Unsaid(f"max_pool2d: {error}", error.help or "") from error
    lengths = made.lengths(operator)
    for axis in range(2, len(lengths)):
        place = axis - len(lengths)
        before, length = (placed.padding[0], placed.padding[2])[place], value.lengths[axis]
        starts = range(-before, lengths[axis] * stride[place] - before, stride[place])
        taps = [range(start, start + kernel[place] * dilation[place], dilation[place]) for start in starts]
        inside = [[tap for tap in window if 0 <= tap < length] for window in taps]
        refuse_unless(all(inside), "one of its windows lies in the padding alone", "less padding")
        slices = []
        for tap in range(kernel[place]):
            places = [
                window[tap] if 0 <= window[tap] < length else valid[0]
                for window, valid in zip(taps, inside, strict=True)
            ]
            slices.append(made.canonical(operator, picked(made, operator, value, axis, places)))
        if len(slices) > 1:
            note = "a window with gaps is the maximum of its taps"
            result = made.add(operator, "maximum", slices, note=note)
            value = replace(result, lengths=slices[0].lengths)
        else:
            value = slices[0]
    return value


def _both(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _lp_pool(made: Network, operator: Operator) -> None:
    value = made.map(operator)
    kernel = _kernel(operator, value)
    fields = _window_fields(operator, value, kernel, pool=True)
    refuse_unless("padding" not in fields and "dilation" not in fields, "its windows have padding or gaps")
    _lp(made, operator, value, fields, kernel)


def _global_lp(made: Network, operator: Operator) -> None:
    value = made.map(operator)
    _lp(made, operator, value, {"kernel_size": list(value.shape[1:])}, list(value.shape[1:]))


def _lp(made: Network, operator: Operator, value: Value, fields: dict[str, Any], kernel: list[int]) -> None:
    """Translate LpPool: its sum of powers is the mean of powers times the number of elements in a window."""
    p = float(operator.attributes.get("p", 2))
    refuse_unless(not operator.attributes.get("ceil_mode"), "its last window hangs over the end: ceil_mode")
    mean = made.add(operator, "lp_pool2d", [value], {**fields, "p": int(p) if p == int(p) else p})
    scale = {"scale": float(prod(kernel) ** (1 / p)), "shift": "none", "learned": False}
    note = "the root of a sum of powers is that of their mean, times a number"
    made.write(operator, made.add(operator, "scale_shift", [mean], scale, note=note))


def _global(type: str, made: Network, operator: Operator) -> None:
    made.write(operator, made.add(operator, type, [made.map(operator)]))


TRANSLATORS: Mapping[str, Translator] = {
    "AveragePool": partial(_pool, "avg_pool2d"),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _dense,
    "GlobalAveragePool": partial(_global, "global_avg_pool2d"),
    "GlobalLpPool": _global_lp,
    "GlobalMaxPool": partial(_global, "global_max_pool2d"),
    "LpPool": _lp_pool,
    "MaxPool": partial(_pool, "max_pool2d"),
}
