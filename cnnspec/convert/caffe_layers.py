"""Translates Caffe's layers: each becomes one or more layers of a spec, with its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import scaled
from cnnspec.convert.operators.translator import refuse_unless
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

MAX, AVERAGE = 0, 1  # Caffe's numbers of kinds of pooling
CEIL = 0
PRODUCT, SUM = 0, 1  # Caffe's numbers of operations on several values
ACROSS = 0
NEAREST = {
    "Crop": "crop2d, with lengths of its own",
    "Interp": "upsample2d, by whole factors",
    "Normalize": "rms_norm",
    "Permute": "permute",
    "Upsample": "upsample2d",
}


@dataclass(frozen=True, slots=True)
class Use:
    """One layer of the file: its message, the values it reads, its arrays if there are weights, its number of outputs.

    `alone` says that no other layer reads its first input.
    """

    made: Network
    operator: Operator
    message: Any
    inputs: Sequence[Value]
    arrays: Sequence[Array] | None
    outputs: int
    alone: bool

    def one(self) -> Value:
        """Return the only value that the layer reads; Unsaid if it reads several."""
        refuse_unless(len(self.inputs) == 1, f"it reads {len(self.inputs)} values, not one")
        return self.inputs[0]

    def map(self) -> Value:
        """Return the only value that the layer reads as a map; a vector becomes a map of one pixel."""
        value = self.one()
        return value if len(value.shape) == 3 else self.made.shaped(self.operator, value, (*value.shape, 1, 1))

    def add(
        self, type: str, values: Sequence[Value], fields: Mapping[str, Any] | None = None, **arrays: Array | None
    ) -> Value:
        """Add a layer to the network under the name of the file's layer."""
        given = {name: array for name, array in arrays.items() if array is not None}
        return self.made.add(self.operator, type, values, fields, given)

    def take(self, *shapes: Shape) -> list[Array | None]:
        """Return the layer's arrays in the given shapes; Unsaid if the file has other numbers or sizes of arrays."""
        if self.arrays is None:
            return [None] * len(shapes)
        refuse_unless(
            len(self.arrays) == len(shapes), f"it has {len(self.arrays)} arrays in the weights, expected {len(shapes)}"
        )
        sizes = [array.size for array in self.arrays]
        wanted = [prod(shape) for shape in shapes]
        refuse_unless(sizes == wanted, f"its arrays have {sizes} numbers, expected {wanted}")
        return [array.reshape(shape) for array, shape in zip(self.arrays, shapes, strict=True)]


def _axes(message: Any, name: str, default: int) -> list[int]:
    """Return the values for rows and columns of a setting that is given once or for each axis."""
    if message.HasField(f"{name}_h") or message.HasField(f"{name}_w"):
        return [getattr(message, f"{name}_h"), getattr(message, f"{name}_w")]
    lengths = list(getattr(message, "kernel_size" if name == "kernel" else name)) or [default]
    refuse_unless(len(lengths) <= 2, f"{name} has {len(lengths)} lengths")
    return [lengths[0], lengths[-1]]


def _short(lengths: Sequence[int]) -> Any:
    return lengths[0] if lengths[0] == lengths[1] else list(lengths)


def _short_number(value: float) -> float:
    """Return the shortest decimal number that float32 rounds to the same value."""
    return float(str(np.float32(value)))


def _windows(kernel: list[int], stride: list[int], pad: list[int], usual_stride: list[int]) -> dict[str, Any]:
    refuse_unless(min(kernel) > 0 and min(stride) > 0, f"its kernel is {kernel}, its stride {stride}")
    fields: dict[str, Any] = {"kernel_size": _short(kernel)}
    fields |= {"stride": _short(stride)} if stride != usual_stride else {}
    same = stride == [1, 1] and all(2 * side + 1 == length for side, length in zip(pad, kernel, strict=True))
    return fields | ({"padding": "same" if same and usual_stride == [1, 1] else _short(pad)} if any(pad) else {})


def _convolution(use: Use, *, transposed: bool = False) -> list[Value]:
    value, settings = use.map(), use.message.convolution_param
    filters, groups, channels = settings.num_output, settings.group, value.shape[0]
    refuse_unless(settings.axis == 1, f"it works on axis {settings.axis}")
    refuse_unless(filters > 0 < groups and channels % groups == 0 == filters % groups, f"{groups} groups do not divide")
    kernel = _axes(settings, "kernel", 0)
    dilation = [*(list(settings.dilation) or [1]), *list(settings.dilation)][:2]
    fields = _windows(kernel, _axes(settings, "stride", 1), _axes(settings, "pad", 0), [1, 1])
    if transposed and fields.get("padding") == "same":
        fields["padding"] = _short(_axes(settings, "pad", 0))
    refuse_unless(min(dilation) > 0, f"dilation is {dilation}")
    fields |= {"dilation": _short([dilation[0], dilation[-1]])} if dilation != [1, 1] and dilation != [1] else {}
    fields |= {} if settings.bias_term else {"bias": "none"}
    shape = (channels, filters // groups) if transposed else (filters, channels // groups)
    found = use.take((*shape, *kernel), *([(filters,)] if settings.bias_term else []))
    arrays = dict(zip(("weight", "bias"), found, strict=False))
    if groups == channels > 1 and not transposed:
        multiplier = filters // channels
        fields |= {"multiplier": multiplier} if multiplier > 1 else {}
        return [use.add("depthwise_conv2d", [value], fields, **arrays)]
    fields = {"filters": filters, **fields, **({"groups": groups} if groups > 1 else {})}
    return [use.add("conv_transpose2d" if transposed else "conv2d", [value], fields, **arrays)]


def _deconvolution(use: Use) -> list[Value]:
    return _convolution(use, transposed=True)


def _dense(use: Use) -> list[Value]:
    value, settings = use.one(), use.message.inner_product_param
    refuse_unless(settings.axis == 1, f"it works on axis {settings.axis}")
    count, units = prod(value.shape), settings.num_output
    value = use.made.shaped(use.operator, value, (count,))
    shape = (count, units) if settings.transpose else (units, count)
    weight, *bias = use.take(shape, *([(units,)] if settings.bias_term else []))
    turned = weight.T if settings.transpose and weight is not None else weight
    fields = {"units": units, **({} if settings.bias_term else {"bias": "none"})}
    return [use.add("dense", [value], fields, weight=turned, bias=bias[0] if bias else None)]


def _pool(use: Use) -> list[Value]:
    """Translate pooling; Caffe rounds the number of windows up, and its means include the padding."""
    value, settings = use.map(), use.message.pooling_param
    refuse_unless(settings.pool in (MAX, AVERAGE), "it draws an element of each window", "pool: MAX or AVE")
    refuse_unless(use.outputs == 1, "it also gives the places of the maxima")
    if settings.global_pooling:
        return [use.add("global_max_pool2d" if settings.pool == MAX else "global_avg_pool2d", [value])]
    kernel, stride, pad = (
        [getattr(settings, f"{name}_h"), getattr(settings, f"{name}_w")]
        if settings.HasField(f"{name}_h") or settings.HasField(f"{name}_w")
        else [getattr(settings, "kernel_size" if name == "kernel" else name)] * 2
        for name in ("kernel", "stride", "pad")
    )
    fields = _windows(kernel, stride, pad, kernel)
    over = [
        (length + 2 * side - reach) % step
        for length, side, reach, step in zip(value.shape[1:], pad, kernel, stride, strict=True)
    ]
    if settings.round_mode == CEIL and any(over):
        fields["ceil_mode"] = True
    if settings.pool == MAX:
        return [use.add("max_pool2d", [value], fields)]
    return [use.add("avg_pool2d", [value], {**fields, **({"count_include_pad": True} if any(pad) else {})})]


def _batch_norm(use: Use) -> list[Value]:
    """Translate batch normalisation; the file holds sums of means and variances, and as third array their number."""
    value, settings = use.one(), use.message.batch_norm_param
    channels = value.shape[0]
    mean, variance, count = use.take((channels,), (channels,), (1,))
    arrays: dict[str, Array | None] = {}
    if mean is not None and variance is not None and count is not None:
        factor = 1 / count[0] if count[0] else 0.0
        states = {"running_mean": mean * factor, "running_variance": variance * factor}
        arrays = {"weight": np.ones(channels), "bias": np.zeros(channels), **states}
    fields = {"epsilon": _short_number(settings.eps), "momentum": _short_number(settings.moving_average_fraction)}
    return [use.add("batch_norm", [value], fields, **arrays)]


def _scale(use: Use) -> list[Value]:
    """Translate a scale layer: the weight and bias of the batch normalisation before it, or else a layer of its own."""
    settings = use.message.scale_param
    if len(use.inputs) == 2:
        return _refuse_other_form(use)
    value = use.one()
    refuse_unless(settings.axis == 1 and settings.num_axes == 1, "it scales by more than the channels")
    channels = value.shape[0]
    weight, *bias = use.take((channels,), *([(channels,)] if settings.bias_term else []))
    normalised = use.made.drafts.get(value.layer)
    fresh = normalised is not None and normalised.type == "batch_norm" and use.alone
    if normalised is not None and fresh and (not normalised.arrays or (normalised.arrays["weight"] == 1).all()):
        if weight is not None:
            normalised.arrays["weight"] = weight
            normalised.arrays["bias"] = np.zeros(channels) if not bias or bias[0] is None else bias[0]
        normalised.notes.append(f"{use.operator.name} is its weight{' and bias' if settings.bias_term else ''}")
        return [value]
    fields = {} if settings.bias_term else {"shift": "none"}
    return [use.add("scale_shift", [value], fields, scale=weight, shift=bias[0] if bias else None)]


def _refuse_other_form(use: Use) -> list[Value]:
    settings = use.message.scale_param
    refuse_unless(settings.axis == 0 and not settings.bias_term, "it scales along other axes than the channels")
    return [use.add("multiply", use.inputs)]


def _bias(use: Use) -> list[Value]:
    value, settings = use.one(), use.message.bias_param
    refuse_unless(settings.axis == 1 and settings.num_axes == 1, "it shifts more than the channels")
    (shift,) = use.take(value.shape[:1])
    return [use.add("scale_shift", [value], {"scale": "none"}, shift=shift)]


def _relu(use: Use) -> list[Value]:
    slope = _short_number(use.message.relu_param.negative_slope)
    if slope:
        return [use.add("leaky_relu", [use.one()], {"negative_slope": slope})]
    return [use.add("relu", [use.one()])]


def _prelu(use: Use) -> list[Value]:
    value = use.one()
    channels = value.shape[0]
    (weight,) = use.take((1 if use.message.prelu_param.channel_shared else channels,))
    return [use.add("prelu", [value], weight=None if weight is None else np.broadcast_to(weight, (channels,)))]


def _elu(use: Use) -> list[Value]:
    alpha = _short_number(use.message.elu_param.alpha)
    return [use.add("elu", [use.one()], {"alpha": alpha} if alpha != 1 else {})]


def _exp(use: Use) -> list[Value]:
    settings = use.message.exp_param
    refuse_unless((settings.base, settings.scale, settings.shift) == (-1, 1, 0), "it has a base, scale or shift")
    return [use.add("exp", [use.one()])]


def _power(use: Use) -> list[Value]:
    settings, value = use.message.power_param, use.one()
    value = scaled(use.made, use.operator, value, settings.scale, settings.shift)
    if settings.power == 1:
        return [value]
    refuse_unless(settings.power == 2, f"it takes the power {settings.power:g}", "power: 1 or 2")
    return [use.add("square", [value])]


def _response_norm(use: Use) -> list[Value]:
    settings = use.message.lrn_param
    refuse_unless(settings.norm_region == ACROSS, "it normalises within a channel", "ACROSS_CHANNELS")
    fields = {name: _short_number(getattr(settings, name)) for name in ("alpha", "beta", "k")}
    return [use.add("local_response_norm", [use.map()], {"size": settings.local_size, **fields})]


def _softmax(use: Use) -> list[Value]:
    refuse_unless(use.message.softmax_param.axis == 1, "it works on another axis than the channels", "axis: 1")
    return [use.add("softmax", [use.one()])]


def _dropout(use: Use) -> list[Value]:
    return [use.add("dropout", [use.one()], {"rate": _short_number(use.message.dropout_param.dropout_ratio)})]


def _plain(type: str) -> Translator:
    return lambda use: [use.add(type, [use.one()])]


def _eltwise(use: Use) -> list[Value]:
    settings, values = use.message.eltwise_param, list(use.inputs)
    refuse_unless(len(values) > 1, "it reads one value")
    refuse_unless(len({value.shape for value in values}) == 1, "its inputs differ in shape")
    if settings.operation != SUM:
        return [use.add("multiply" if settings.operation == PRODUCT else "maximum", values)]
    factors = list(settings.coeff) or [1.0] * len(values)
    refuse_unless(len(factors) == len(values), f"it has {len(factors)} coefficients for {len(values)} inputs")
    if factors == [1.0, -1.0]:
        return [use.add("subtract", values)]
    parts = [scaled(use.made, use.operator, value, factor) for value, factor in zip(values, factors, strict=True)]
    return [use.add("add", parts)]


def _concat(use: Use) -> list[Value]:
    settings = use.message.concat_param
    axis = settings.axis if settings.HasField("axis") else settings.concat_dim
    refuse_unless(axis == 1, f"it joins along axis {axis}", "axis: 1")
    return [use.add("concat", use.inputs)] if len(use.inputs) > 1 else [use.one()]


def _split(use: Use) -> list[Value]:
    return [use.one()] * use.outputs


def _slice(use: Use) -> list[Value]:
    value, settings = use.map(), use.message.slice_param
    axis = settings.axis if settings.HasField("axis") else settings.slice_dim
    refuse_unless(axis == 1, f"it cuts along axis {axis}", "axis: 1")
    points = list(settings.slice_point)
    if not points:
        refuse_unless(value.shape[0] % use.outputs == 0, f"{value.shape[0]} channels are not {use.outputs} parts")
        points = [value.shape[0] // use.outputs * place for place in range(1, use.outputs)]
    refuse_unless(len(points) == use.outputs - 1, f"it has {len(points)} points for {use.outputs} parts")
    bounds = [0, *points, value.shape[0]]
    return [
        use.made.add(
            use.operator,
            "slice",
            [value],
            {"channels": {"start": start, "stop": stop}},
            nameless=True,
        )
        for start, stop in pairwise(bounds)
    ]


def _flatten(use: Use) -> list[Value]:
    settings, value = use.message.flatten_param, use.one()
    refuse_unless((settings.axis, settings.end_axis) in ((1, -1), (1, 3)), "it joins other axes than all of an image")
    return [use.made.shaped(use.operator, value, (prod(value.shape),))]


def _reshape(use: Use) -> list[Value]:
    settings, value = use.message.reshape_param, use.one()
    target = list(settings.shape.dim)
    refuse_unless((settings.axis, settings.num_axes) == (0, -1), "it changes some axes alone", "all of them")
    refuse_unless(len(target) in (2, 4) and target[0] in (0, -1), f"its shape is {target}", "0, then one image's")
    inner = [
        value.shape[place] if length == 0 and place < len(value.shape) else length
        for place, length in enumerate(target[1:])
    ]
    if -1 in inner:
        rest = prod(length for length in inner if length != -1)
        if rest <= 0 or prod(value.shape) % rest:
            raise Unsaid(f"{prod(value.shape)} numbers are not {target}")
        inner = [prod(value.shape) // rest if length == -1 else length for length in inner]
    refuse_unless(prod(inner) == prod(value.shape) and min(inner) > 0, f"it moves numbers between images: {target}")
    return [use.made.shaped(use.operator, value, tuple(inner))]


Translator = Callable[[Use], list[Value]]
TRANSLATORS: Mapping[str, Translator] = {
    "AbsVal": _plain("abs"),
    "BNLL": _plain("softplus"),
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "Deconvolution": _deconvolution,
    "DepthwiseConvolution": _convolution,
    "Dropout": _dropout,
    "ELU": _elu,
    "Eltwise": _eltwise,
    "Exp": _exp,
    "Flatten": _flatten,
    "InnerProduct": _dense,
    "LRN": _response_norm,
    "PReLU": _prelu,
    "Pooling": _pool,
    "Power": _power,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _plain("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "TanH": _plain("tanh"),
}
