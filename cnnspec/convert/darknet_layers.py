"""Translates Darknet's layers: each section becomes one or more layers of a spec, with the numbers of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from cnnspec.convert.darknet_file import Section, Weights
from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import scaled
from cnnspec.convert.operators.translator import refuse_unless
from cnnspec.convert.refusal import Unknown, Unsaid
from cnnspec.kernels.step import Array

EPSILON = 1e-6
MOST = 1 << 24  # most filters, units or pixels along an axis: larger networks cannot be run
NEAREST = {  # for sections without a translation, the layers that come closest
    "detection": "--until with the layer before it",
    "gaussian_yolo": "--until with the layer before it",
    "local": "conv2d, whose weights are the same everywhere",
    "region": "--until with the layer before it",
    "scale_channels": "multiply",
    "yolo": "--until with the layer before it",
}
ACTIVATIONS: Mapping[str, list[dict[str, Any]]] = {
    "elu": [{"type": "elu"}],
    "hardtan": [{"type": "clip", "min": -1, "max": 1}],
    "leaky": [{"type": "leaky_relu", "negative_slope": 0.1}],
    "linear": [],
    "logistic": [{"type": "sigmoid"}],
    "mish": [{"type": "mish"}],
    "relie": [{"type": "leaky_relu", "negative_slope": 0.01}],
    "relu": [{"type": "relu"}],
    "relu6": [{"type": "relu6"}],
    "selu": [{"type": "selu"}],
    "swish": [{"type": "silu"}],
    "tanh": [{"type": "tanh"}],
}


class Translation:
    """The layers translated so far, the number of the current section, and the weights."""

    def __init__(self, made: Network, names: list[str], weights: Weights | None) -> None:
        self.made = made
        self.names = names
        self.weights = weights
        self.number = 0  # number of the section that is translated

    def above(self) -> Value:
        """Return the output of the section above, or the input."""
        return self.at(self.number - 1) if self.number else self.made.values["input"]

    def at(self, number: int) -> Value:
        """Return the output of a section by its number; a negative number counts upwards from the current one."""
        place = number + self.number if number < 0 else number
        refuse_unless(0 <= place < self.number, f"there is no layer {number} above it")
        if self.names[place] not in self.made.values:
            raise Unknown(f"{self.names[place]} is refused")
        return self.made.values[self.names[place]]

    def add(
        self,
        operator: Operator,
        type: str,
        values: list[Value],
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
    ) -> Value:
        """Add a layer with a generated name, because Darknet's layers have none."""
        return self.made.add(operator, type, values, fields, arrays, nameless=True)

    def activated(self, operator: Operator, section: Section, value: Value, default: str) -> Value:
        """Apply the section's activation to a value."""
        name = section.text("activation", default)
        refuse_unless(name in ACTIVATIONS, f"no layer computes activation={name}", ", ".join(ACTIVATIONS))
        for item in ACTIVATIONS[name]:
            value = self.add(operator, item["type"], [value], {k: v for k, v in item.items() if k != "type"})
        return value

    def normalised(self, operator: Operator, value: Value, bias: Array | None, rest: list[Array]) -> Value:
        """Apply a batch normalisation with a bias, a weight, a mean and a variance to a value."""
        names = ("weight", "running_mean", "running_variance")
        arrays = {} if bias is None else {"bias": bias, **dict(zip(names, rest, strict=True))}
        return self.add(operator, "batch_norm", [value], {"epsilon": EPSILON}, arrays)

    def map(self, operator: Operator) -> Value:
        """Return the output of the section above as a map."""
        value = self.above()
        return value if len(value.shape) == 3 else self.made.shaped(operator, value, (*value.shape, 1, 1))


def _bounded(section: Section, name: str, default: int, least: int = 1) -> int:
    number = section.integer(name, default)
    refuse_unless(least <= number <= MOST, f"{name}={number} is out of range")
    return number


def _steps(section: Section) -> tuple[Any, tuple[int, int]]:
    stride = _bounded(section, "stride", 1)
    rows, columns = _bounded(section, "stride_y", stride), _bounded(section, "stride_x", stride)
    return rows if rows == columns else [rows, columns], (rows, columns)


def _convolution(work: Translation, operator: Operator, section: Section) -> Value:
    value = work.map(operator)
    filters, size, groups = (_bounded(section, name, 1) for name in ("filters", "size", "groups"))
    padding = size // 2 if section.integer("pad", 0) else _bounded(section, "padding", 0, 0)
    section.ignore("padding")
    if section.text("dilation", "1") != "1":
        raise Unsaid("the forks of Darknet pad dilated windows in two ways", "dilation=1")
    for name in ("binary", "xnor"):
        refuse_unless(not section.integer(name, 0), f"its weights are {name}", "weights that are numbers")
    normalises, flipped = section.integer("batch_normalize", 0), section.integer("flipped", 0)
    stride, _ = _steps(section)
    channels = value.shape[0]
    refuse_unless(channels % groups == 0 == filters % groups, f"{groups} groups do not divide {channels} channels")
    fields: dict[str, Any] = {"kernel_size": size}
    fields |= {"stride": stride} if stride != 1 else {}
    if padding:
        fields["padding"] = "same" if stride == 1 and 2 * padding + 1 == size else padding
    depthwise = groups == channels > 1
    if depthwise:
        fields |= {"multiplier": filters // channels} if filters > channels else {}
    else:
        fields = {"filters": filters, **fields, **({"groups": groups} if groups > 1 else {})}
    bias, rest, arrays = None, list[Array](), dict[str, Array]()
    if work.weights is not None:
        bias = work.weights.take(filters)
        rest = [work.weights.take(filters) for _ in range(3)] if normalises else []
        inner = (channels // groups, size, size)
        if flipped:
            weight = work.weights.take(inner[0] * size * size, filters).T.reshape(filters, *inner)
        else:
            weight = work.weights.take(filters, *inner)
        arrays = {"weight": weight} if normalises else {"weight": weight, "bias": bias}
    fields |= {"bias": "none"} if normalises else {}
    kind = "depthwise_conv2d" if depthwise else "conv2d"
    value = work.add(operator, kind, [value], fields, arrays)
    value = work.normalised(operator, value, bias, rest) if normalises else value
    return work.activated(operator, section, value, "logistic")


def _connected(work: Translation, operator: Operator, section: Section) -> Value:
    value, units = work.above(), _bounded(section, "output", 1)
    normalises = section.integer("batch_normalize", 0)
    count = prod(value.shape)
    value = work.made.shaped(operator, value, (count,))
    arrays, rest, bias = dict[str, Array](), list[Array](), None
    if work.weights is not None:
        bias = work.weights.take(units)
        turned = work.weights.transposed
        weight = work.weights.take(count, units).T if turned else work.weights.take(units, count)
        rest = [work.weights.take(units) for _ in range(3)] if normalises else []
        arrays = {"weight": weight} if normalises else {"weight": weight, "bias": bias}
    fields = {"units": units, **({"bias": "none"} if normalises else {})}
    value = work.add(operator, "dense", [value], fields, arrays)
    value = work.normalised(operator, value, bias, rest) if normalises else value
    return work.activated(operator, section, value, "logistic")


def _max_pool(work: Translation, operator: Operator, section: Section) -> Value:
    """Translate max pooling; Darknet pads by size - 1 in all, half in front, and behind as far as windows reach."""
    value = work.map(operator)
    stride, strides = _steps(section)
    size = _bounded(section, "size", strides[0])
    whole = _bounded(section, "padding", size - 1, 0)
    padding: list[int] = []
    for axis, step in enumerate(strides):
        length, before = value.shape[1 + axis], whole // 2
        windows = (length + whole - size) // step + 1
        refuse_unless(length + whole >= size, f"its windows are larger than the map of {length}")
        padding += [before, max((windows - 1) * step + size - length - before, 0)]
    fields: dict[str, Any] = {"kernel_size": size}
    fields |= {"stride": stride} if stride != size else {}
    if any(padding):
        fields["padding"] = padding[0] if len(set(padding)) == 1 else padding
    return work.add(operator, "max_pool2d", [value], fields)


def _avg_pool(work: Translation, operator: Operator, section: Section) -> Value:
    return work.add(operator, "global_avg_pool2d", [work.map(operator)])


def _dropout(work: Translation, operator: Operator, section: Section) -> Value:
    rate = section.number("probability", 0.5)
    refuse_unless(0 <= rate < 1, f"probability={rate} is no probability")
    section.ignore("dropblock", "dropblock_size_abs", "dropblock_size_rel")
    return work.add(operator, "dropout", [work.above()], {"rate": rate})


def _softmax(work: Translation, operator: Operator, section: Section) -> Value:
    value, temperature = work.above(), section.number("temperature", 1.0)
    refuse_unless(temperature > 0, f"temperature={temperature} is not above 0")
    refuse_unless(section.integer("groups", 1) == 1, "it has several groups", "a slice and a softmax for each")
    if not section.integer("spatial", 0) and len(value.shape) == 3:
        value = work.made.shaped(operator, value, (prod(value.shape),))
    return work.add(operator, "softmax", [scaled(work.made, operator, value, 1 / temperature)])


def _route(work: Translation, operator: Operator, section: Section) -> Value:
    values = [work.at(number) for number in section.integers("layers")]
    groups, group = _bounded(section, "groups", 1), section.integer("group_id", 0)
    refuse_unless(bool(values), "it names no layers")
    refuse_unless(0 <= group < groups, f"group_id={group} is none of {groups} groups")
    if groups > 1:
        part = {"channels": {"part": group + 1, "of": groups}}
        values = [work.add(operator, "slice", [value], part) for value in values]
    if len(values) > 1:
        return work.add(operator, "concat", values)
    return values[0]


def _shortcut(work: Translation, operator: Operator, section: Section) -> Value:
    values = [work.above(), *(work.at(number) for number in section.integers("from"))]
    refuse_unless(len(values) > 1, "it names no layer to add")
    refuse_unless(len({value.shape for value in values}) == 1, "its layers differ in shape", "a 1x1 conv2d before it")
    alpha, beta = section.number("alpha", 1.0), section.number("beta", 1.0)
    values = [
        scaled(work.made, operator, value, factor)
        for value, factor in zip(values, (alpha, *[beta] * (len(values) - 1)), strict=True)
    ]
    return work.activated(operator, section, work.add(operator, "add", values), "linear")


def _upsample(work: Translation, operator: Operator, section: Section) -> Value:
    stride, scale = section.integer("stride", 2), section.number("scale", 1.0)
    refuse_unless(1 <= stride <= MOST, f"stride={stride} makes the map smaller", "avg_pool2d")
    return scaled(work.made, operator, work.add(operator, "upsample2d", [work.map(operator)], {"scale": stride}), scale)


def _reorg(work: Translation, operator: Operator, section: Section) -> Value:
    """Translate reorg: the map is read with stride² fewer channels and more pixels, whose phases become channels."""
    value, stride = work.map(operator), _bounded(section, "stride", 1)
    for name in ("reverse", "flatten", "extra"):
        refuse_unless(not section.integer(name, 0), f"nothing here does {name}")
    (c, h, w), square = value.shape, stride * stride
    refuse_unless(c % square == 0 == h % stride == w % stride, f"a stride of {stride} does not divide its map")
    refuse_unless(square <= 64, f"stride={stride} is larger than 8")
    value = work.made.shaped(operator, value, (c // square, h * stride, w * stride))
    phases = [
        work.add(
            operator,
            "slice",
            [value],
            {"rows": {"start": row, "step": stride}, "columns": {"start": column, "step": stride}},
        )
        for row in range(stride)
        for column in range(stride)
    ]
    joined = work.add(operator, "concat", phases) if stride > 1 else value
    return work.made.shaped(operator, joined, (c * square, h // stride, w // stride))


def _crop(work: Translation, operator: Operator, section: Section) -> Value:
    """Translate crop: cut out the middle of the map, and rescale pixels from 0..1 to -1..1."""
    value = work.map(operator)
    height, width = _bounded(section, "crop_height", 1), _bounded(section, "crop_width", 1)
    section.ignore("flip", "angle", "saturation", "exposure", "shift")
    (_, h, w) = value.shape
    top, left = (h - height) // 2, (w - width) // 2
    refuse_unless(top >= 0 <= left, f"it cuts {height}x{width} from a map of {h}x{w}")
    if (height, width) != (h, w):
        cropping = [top, h - height - top, left, w - width - left]
        value = work.add(operator, "crop2d", [value], {"cropping": cropping})
    return value if section.integer("noadjust", 0) else scaled(work.made, operator, value, 2, -1)


def _response_norm(work: Translation, operator: Operator, section: Section) -> Value:
    """Translate response normalisation; Darknet multiplies the sum of squares by alpha, a spec by alpha / size."""
    size = _bounded(section, "size", 5)
    fields = {
        "size": size,
        "alpha": section.number("alpha", 0.0001) * size,
        "beta": section.number("beta", 0.75),
        "k": section.number("kappa", 1.0),
    }
    return work.add(operator, "local_response_norm", [work.map(operator)], fields)


def _activation(default: str) -> Translator:
    return lambda work, operator, section: work.activated(operator, section, work.above(), default)


Translator = Callable[[Translation, Operator, Section], Value]
TRANSLATORS: Mapping[str, Translator] = {
    "activation": _activation("linear"),
    "avg": _avg_pool,
    "avgpool": _avg_pool,
    "conn": _connected,
    "connected": _connected,
    "conv": _convolution,
    "convolutional": _convolution,
    "crop": _crop,
    "dropout": _dropout,
    "logistic": _activation("logistic"),
    "lrn": _response_norm,
    "max": _max_pool,
    "maxpool": _max_pool,
    "normalization": _response_norm,
    "reorg": _reorg,
    "route": _route,
    "shortcut": _shortcut,
    "soft": _softmax,
    "softmax": _softmax,
    "upsample": _upsample,
}
