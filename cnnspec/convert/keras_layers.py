"""Translates Keras's layers: each becomes one or more layers of a spec, with its arrays in the order channels first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.keras_use import LAST, Tensor, Use
from cnnspec.convert.network import Value
from cnnspec.convert.operators.affine import scaled
from cnnspec.convert.operators.translator import refuse_unless
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array

MATRIX = (3, 2, 0, 1)  # from (rows, columns, channels, filters) to (filters, channels, rows, columns)
FIRST = (2, 0, 1)  # the axes of a map of Keras, channels first
PLACES = (1, 2, 0)  # where Keras's rows, columns and channels are in (c, h, w)
NEAREST = {
    "Conv1D": "Conv2D on maps of one row",
    "Functional": "a model without a model in it",
    "Lambda": "a layer of Keras's own",
    "Sequential": "a model without a model in it",
}

RANDOM = ("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom")


def _kernel(use: Use) -> dict[str, Any]:
    fields: dict[str, Any] = {"kernel_size": use.pair("kernel_size")}
    fields |= {"stride": use.pair("strides")} if use.pair("strides") != 1 else {}
    padding = use.config.get("padding", "valid")
    refuse_unless(padding in ("valid", "same"), f"padding is {str(padding)[:60]}")
    fields |= {"padding": "same"} if padding == "same" else {}
    fields |= {"dilation": use.pair("dilation_rate")} if use.pair("dilation_rate") != 1 else {}
    return fields


def _turned(array: Array | None, *order: int) -> Array | None:
    return None if array is None else array.transpose(order)


def _biased(use: Use) -> tuple[str, ...]:
    return ("bias",) if use.config.get("use_bias", True) else ()


def _without(use: Use) -> dict[str, Any]:
    return {} if use.config.get("use_bias", True) else {"bias": "none"}


def _convolution(use: Use) -> Tensor:
    value, arrays = use.map(), use.take("weight", *_biased(use))
    groups = int(use.number("groups", 1))
    fields = {"filters": int(use.number("filters", 1)), **_kernel(use), **({"groups": groups} if groups > 1 else {})}
    fields |= _without(use)
    arrays["weight"] = _turned(arrays["weight"], *MATRIX)
    return use.activated(use.add("conv2d", [value], fields, **arrays))


def _by_channel(array: Array | None) -> Array | None:
    """Return depthwise weights (rows, columns, channels, multiplier) as one filter for each channel and multiple."""
    if array is None:
        return None
    kh, kw, channels, multiplier = array.shape
    return array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, kh, kw)


def _depthwise(use: Use) -> Tensor:
    value, arrays = use.map(), use.take("weight", *_biased(use))
    multiplier = int(use.number("depth_multiplier", 1))
    fields = {**_kernel(use), **({"multiplier": multiplier} if multiplier > 1 else {}), **_without(use)}
    arrays["weight"] = _by_channel(arrays["weight"])
    return use.activated(use.add("depthwise_conv2d", [value], fields, **arrays))


def _separable(use: Use) -> Tensor:
    value, arrays = use.map(), use.take("depthwise", "pointwise", *_biased(use))
    multiplier = int(use.number("depth_multiplier", 1))
    fields = {"filters": int(use.number("filters", 1)), **_kernel(use)}
    fields |= {"multiplier": multiplier} if multiplier > 1 else {}
    arrays["depthwise"] = _by_channel(arrays["depthwise"])
    arrays["pointwise"] = _turned(arrays["pointwise"], *MATRIX)
    return use.activated(use.add("separable_conv2d", [value], {**fields, **_without(use)}, **arrays))


def _transposed(use: Use) -> Tensor:
    """Translate a transposed convolution, which has `stride` rows for each input row, or all that windows reach."""
    value, arrays = use.map(), use.take("weight", *_biased(use))
    fields = _kernel(use)
    refuse_unless("dilation" not in fields, "its windows have gaps: dilation_rate", "dilation_rate=1")
    refuse_unless(use.config.get("output_padding") is None, "it has output_padding", "output_padding=None")
    sides, ends = list[int](), list[int]()
    for axis in (0, 1):
        kernel, stride = (
            setting if isinstance(setting, int) else setting[axis]
            for setting in (fields["kernel_size"], fields.get("stride", 1))
        )
        over = kernel - stride
        cut = max(over, 0) if fields.get("padding") == "same" else 0
        sides += [cut // 2, cut - cut // 2]
        ends.append(max(-over, 0))
    fields.pop("padding", None)
    fields |= {"padding": sides if len(set(sides)) > 1 else sides[0]} if any(sides) else {}
    fields |= {"output_padding": ends if ends[0] != ends[1] else ends[0]} if any(ends) else {}
    arrays["weight"] = _turned(arrays["weight"], 3, 2, 0, 1)
    fields = {"filters": int(use.number("filters", 1)), **fields, **_without(use)}
    return use.activated(use.add("conv_transpose2d", [value], fields, **arrays))


def _dense(use: Use) -> Tensor:
    """Translate a dense layer: on a map it is a 1x1 convolution; after a flattened map the weights are reordered."""
    tensor, arrays, units = use.inputs[0], use.take("weight", *_biased(use)), int(use.number("units", 1))
    weight = arrays["weight"]
    if len(tensor.value.shape) == 3:
        arrays["weight"] = None if weight is None else weight.T[:, :, None, None]
        fields = {"filters": units, "kernel_size": 1, **_without(use)}
        return use.activated(use.add("conv2d", [tensor.value], fields, **arrays))
    if tensor.flattened is not None and weight is not None:
        c, h, w = tensor.flattened
        weight = weight.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(c * h * w, -1)
    arrays["weight"] = None if weight is None else weight.T
    return use.activated(use.add("dense", [tensor.value], {"units": units, **_without(use)}, **arrays))


def _last_axis(use: Use, value: Value) -> None:
    axis = use.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    refuse_unless(axis in (-1, len(value.shape)), f"it works on axis {str(axis)[:60]}", "axis=-1, the channels")


def _scaling(use: Use, value: Value, *states: str) -> dict[str, Array | None]:
    """Return weight and bias of a normalisation, ones and zeros where Keras leaves them out, and its statistics."""
    has = {"weight": use.config.get("scale", True), "bias": use.config.get("center", True)}
    arrays = use.take(*(name for name, given in has.items() if given), *states)
    channels = value.shape[0]
    if use.arrays is not None:
        arrays = {"weight": np.ones(channels), "bias": np.zeros(channels), **arrays}
    return arrays


def _batch_norm(use: Use) -> Tensor:
    value = use.here()
    _last_axis(use, value)
    fields = {"epsilon": use.number("epsilon", 1e-3), "momentum": use.number("momentum", 0.99)}
    return use.add("batch_norm", [value], fields, **_scaling(use, value, "running_mean", "running_variance"))


def _layer_norm(use: Use) -> Tensor:
    value = use.here()
    _last_axis(use, value)
    fields: dict[str, Any] = {"epsilon": use.number("epsilon", 1e-3)}
    fields |= {"over": "channels"} if len(value.shape) == 3 else {}
    return use.add("layer_norm", [value], fields, **_scaling(use, value))


def _group_norm(use: Use) -> Tensor:
    value = use.here()
    _last_axis(use, value)
    groups, fields = int(use.number("groups", 32)), {"epsilon": use.number("epsilon", 1e-3)}
    if groups == -1 or groups == value.shape[0]:
        return use.add("instance_norm", [value], fields, **_scaling(use, value))
    return use.add("group_norm", [value], {"groups": groups, **fields}, **_scaling(use, value))


def _activation(use: Use) -> Tensor:
    return use.activated(use.inputs[0])


def _unchanged(use: Use) -> Tensor:
    return use.inputs[0]


def _pointwise(type: str, **fields: str) -> Translator:
    """Return a translator for an elementwise function; `fields` maps a spec's names of settings to Keras's."""

    return lambda use: use.pointwise(
        type, {field: use.number(theirs, 0.0) for field, theirs in fields.items() if theirs in use.config}
    )


def _relu(use: Use) -> Tensor:
    """Translate ReLU, which may have a slope for negative numbers or an upper bound."""
    slope = use.number("negative_slope", 0.0) if use.config.get("negative_slope") is not None else 0.0
    bound, threshold = use.config.get("max_value"), use.config.get("threshold") or 0
    refuse_unless(threshold == 0, f"threshold is {str(threshold)[:60]}", "threshold=0")
    if bound is None:
        return use.pointwise("leaky_relu", {"negative_slope": slope}) if slope else use.pointwise("relu")
    refuse_unless(slope == 0, "it has a slope and a bound", "one of them")
    if bound == 6:
        return use.pointwise("relu6")
    return use.pointwise("clip", {"min": 0, "max": use.number("max_value", 6)})


def _leaky_relu(use: Use) -> Tensor:
    slope = use.number("negative_slope" if "negative_slope" in use.config else "alpha", 0.3)
    return use.pointwise("leaky_relu", {"negative_slope": slope})


def _prelu(use: Use) -> Tensor:
    value, alpha = use.here(), use.take("weight")["weight"]
    if len(value.shape) == 3:
        shared = use.config.get("shared_axes")
        refuse_unless(shared == [1, 2], "every pixel has a slope of its own", "shared_axes=[1, 2]")
    return use.add("prelu", [value], weight=None if alpha is None else alpha.reshape(-1))


def _softmax(use: Use) -> Tensor:
    value = use.here()
    _last_axis(use, value)
    return use.add("softmax", [value])


def _max_pool(use: Use) -> Tensor:
    return use.add("max_pool2d", [use.map()], _windows(use))


def _avg_pool(use: Use) -> Tensor:
    return use.add("avg_pool2d", [use.map()], _windows(use))


def _windows(use: Use) -> dict[str, Any]:
    size = use.pair("pool_size", 2)
    stride = size if use.config.get("strides") is None else use.pair("strides")
    padding = use.config.get("padding", "valid")
    refuse_unless(padding in ("valid", "same"), f"padding is {str(padding)[:60]}")
    fields: dict[str, Any] = {"kernel_size": size}
    fields |= {"stride": stride} if stride != size else {}
    return fields | ({"padding": "same"} if padding == "same" else {})


def _global(type: str) -> Translator:
    def translate(use: Use) -> Tensor:
        tensor = use.add(type, [use.map()])
        if use.config.get("keepdims"):
            return Tensor(use.made.shaped(use.operator, tensor.value, (*tensor.value.shape, 1, 1)))
        return tensor

    return translate


def _flatten(use: Use) -> Tensor:
    value = use.here()
    if len(value.shape) == 1:
        return Tensor(value)
    flat = use.made.shaped(use.operator, value, (prod(value.shape),))
    ordered = value.shape[0] == 1 or value.shape[1:] == (1, 1)
    return Tensor(flat, None if ordered else value.shape)


def _reshape(use: Use) -> Tensor:
    value, target = use.here(), use.config.get("target_shape")
    refuse_unless(isinstance(target, list) and all(type(length) is int for length in target), "it has no target_shape")
    assert isinstance(target, list)
    count = prod(value.shape)
    if -1 in target:
        rest = prod(length for length in target if length != -1)
        refuse_unless(rest > 0 and count % rest == 0, f"{count} numbers are not {target}")
        target = [count // rest if length == -1 else length for length in target]
    refuse_unless(len(target) in (1, 3), f"it makes {len(target)} axes of one image", "a vector or a map")
    if len(target) == 1:
        return _flatten(use)
    if len(value.shape) == 3:
        value = use.made.permuted(use.operator, value, LAST)
    value = use.made.shaped(use.operator, value, tuple(target))
    return Tensor(use.made.permuted(use.operator, value, FIRST))


def _permute(use: Use) -> Tensor:
    value, dims = use.map(), use.config.get("dims")
    refuse_unless(isinstance(dims, list) and sorted(dims) == [1, 2, 3], f"dims is {str(dims)[:60]}")
    assert isinstance(dims, list)
    rows, columns, channels = (PLACES[axis - 1] for axis in dims)
    return Tensor(use.made.permuted(use.operator, value, (channels, rows, columns)))


def _zero_pad(use: Use) -> Tensor:
    return use.add("zero_pad2d", [use.map()], {"padding": use.sides("padding")})


def _crop(use: Use) -> Tensor:
    return use.add("crop2d", [use.map()], {"cropping": use.sides("cropping")})


def _upsample(use: Use) -> Tensor:
    mode = use.config.get("interpolation", "nearest")
    refuse_unless(mode in ("nearest", "bilinear"), f"interpolation is {str(mode)[:60]}", "nearest or bilinear")
    fields = {"scale": use.pair("size", 2), **({"mode": mode} if mode != "nearest" else {})}
    return use.add("upsample2d", [use.map()], fields)


def _merge(type: str) -> Translator:
    def translate(use: Use) -> Tensor:
        refuse_unless(len(use.inputs) > 1 and not use.others, "it merges a value with a number or an array")
        values = [use.here(position) for position in range(len(use.inputs))]
        repeats = type == "add" and len({value.shape for value in values}) > 1
        return use.add(type, values, {"broadcast": True} if repeats else {})

    return translate


def _average(use: Use) -> Tensor:
    total = _merge("add")(use).value
    return Tensor(scaled(use.made, use.operator, total, 1 / len(use.inputs)))


def _concatenate(use: Use) -> Tensor:
    values = [use.here(position) for position in range(len(use.inputs))]
    _last_axis(use, values[0])
    return use.add("concat", values) if len(values) > 1 else Tensor(values[0])


def _rescaling(use: Use) -> Tensor:
    scale, offset = use.number("scale", 1.0), use.number("offset", 0.0)
    return Tensor(scaled(use.made, use.operator, use.here(), scale, offset))


def _dropout(type: str) -> Translator:
    def translate(use: Use) -> Tensor:
        if use.config.get("noise_shape"):
            raise Unsaid("it drops numbers together: noise_shape", "SpatialDropout2D")
        return use.pointwise(type, {"rate": use.number("rate", 0.5)})

    return translate


Translator = Callable[[Use], Tensor]
TRANSLATORS: Mapping[str, Translator] = {
    **dict.fromkeys(RANDOM, _unchanged),  # they change images in training alone
    "Activation": _activation,
    "ActivityRegularization": _unchanged,
    "Add": _merge("add"),
    "Average": _average,
    "AveragePooling2D": _avg_pool,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _convolution,
    "Conv2DTranspose": _transposed,
    "Cropping2D": _crop,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _dropout("dropout"),
    "ELU": _pointwise("elu", alpha="alpha"),
    "Flatten": _flatten,
    "GaussianNoise": _pointwise("noise", std="stddev"),
    "GlobalAveragePooling2D": _global("global_avg_pool2d"),
    "GlobalMaxPooling2D": _global("global_max_pool2d"),
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "LeakyReLU": _leaky_relu,
    "MaxPooling2D": _max_pool,
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Multiply": _merge("multiply"),
    "PReLU": _prelu,
    "Permute": _permute,
    "ReLU": _relu,
    "Relu": _pointwise("relu"),
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv2D": _separable,
    "Sigmoid": _pointwise("sigmoid"),
    "Silu": _pointwise("silu"),
    "Softmax": _softmax,
    "Softplus": _pointwise("softplus"),
    "SpatialDropout2D": _dropout("spatial_dropout2d"),
    "Subtract": _merge("subtract"),
    "Tanh": _pointwise("tanh"),
    "UpSampling2D": _upsample,
    "ZeroPadding2D": _zero_pad,
}
