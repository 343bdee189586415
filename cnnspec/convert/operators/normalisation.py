"""Translates normalisation and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.translator import Translator, axis_of, brought_first, put_back, refuse_unless
from cnnspec.convert.refusal import Unsaid
from cnnspec.fields import options
from cnnspec.kernels.step import Array
from cnnspec.registry import find


def epsilon(type: str, value: float) -> dict[str, float]:
    """The field that says an epsilon other than the layer's default; the last digits of float32 are no difference."""
    usual = next(option.default for option in options(find("layer", type)) if option.name == "epsilon")
    return {} if abs(value - usual) < 1e-6 * usual else {"epsilon": float(f"{value:.6g}")}


def _parameters(made: Network, operator: Operator, count: int) -> list[Array]:
    parameters = [made.constant(operator, position) for position in range(1, count + 1)]
    refuse_unless(all(array is not None for array in parameters), "some of its parameters are missing")
    return [np.ravel(array) for array in parameters if array is not None]


def _batch_norm(made: Network, operator: Operator) -> None:
    attributes = operator.attributes
    refuse_unless(not attributes.get("training_mode"), "it takes the statistics of the batch: training_mode", "0")
    refuse_unless(
        sum(bool(name) for name in operator.outputs) == 1 or made.source.opset < 14, "it gives its statistics"
    )
    weight, bias, mean, variance = _parameters(made, operator, 4)
    value = made.read(operator)
    refuse_unless(
        bool(attributes.get("spatial", 1)) or len(value.lengths) == 2, "it has numbers for each pixel", "spatial: 1"
    )
    value = made.canonical(operator, value)
    fields = epsilon("batch_norm", float(attributes.get("epsilon", 1e-5)))
    momentum = float(attributes.get("momentum", 0.9))
    if abs(momentum - 0.9) > 1e-6 and 0 <= momentum < 1:
        fields["momentum"] = float(np.format_float_positional(np.float32(momentum)))
    refuse_unless(bool((variance >= 0).all()), "one of its variances is negative")
    arrays = {"weight": weight, "bias": bias, "running_mean": mean, "running_variance": variance}
    made.write(operator, made.add(operator, "batch_norm", [value], fields, arrays))


def _instance_norm(made: Network, operator: Operator) -> None:
    """Translate instance normalisation; applied to groups of channels, it is a layer or group normalisation."""
    weight, bias = _parameters(made, operator, 2)
    value, fields = made.read(operator), epsilon("instance_norm", float(operator.attributes.get("epsilon", 1e-5)))
    groups, channels = value.lengths[1], value.shape[0]
    neutral = bool((weight == 1).all() and (bias == 0).all())
    if neutral and len(value.shape) == 3 and groups < channels and channels % groups == 0:
        arrays = {"weight": np.ones(channels), "bias": np.zeros(channels)}
        if groups == 1:
            made.write(operator, made.add(operator, "layer_norm", [value], {"over": "map", **fields}, arrays))
            return
        made.write(operator, made.add(operator, "group_norm", [value], {"groups": groups, **fields}, arrays))
        return
    value = made.canonical(operator, value)
    made.write(operator, made.add(operator, "instance_norm", [value], fields, {"weight": weight, "bias": bias}))


def _group_norm(made: Network, operator: Operator) -> None:
    weight, bias = _parameters(made, operator, 2)
    value, groups = made.canonical(operator, made.read(operator)), int(operator.attributes.get("num_groups", 1))
    channels = value.shape[0]
    refuse_unless(groups > 0 and channels % groups == 0, f"{groups} groups do not divide {channels} channels")
    if weight.size == groups:  # before opset 21 there was one for each group
        weight, bias = (np.repeat(array, channels // groups) for array in (weight, bias))
    fields: dict[str, Any] = epsilon("group_norm", float(operator.attributes.get("epsilon", 1e-5)))
    arrays = {"weight": weight, "bias": bias}
    if groups == channels and len(value.shape) == 3:
        made.write(operator, made.add(operator, "instance_norm", [value], fields, arrays))
    elif groups == 1 and len(value.shape) == 3:
        made.write(operator, made.add(operator, "layer_norm", [value], {"over": "map", **fields}, arrays))
    else:
        made.write(operator, made.add(operator, "group_norm", [value], {"groups": groups, **fields}, arrays))


def _layer_norm(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    refuse_unless(sum(bool(name) for name in operator.outputs) == 1, "it also gives its statistics")
    first, last = axis_of(int(operator.attributes.get("axis", -1)), value), len(value.lengths) - 1
    weight = _parameters(made, operator, 1)[0]
    bias = made.constant(operator, 2)
    fields: dict[str, Any] = epsilon("layer_norm", float(operator.attributes.get("epsilon", 1e-5)))
    rows, turned = brought_first(made, operator, value, first, last)
    arrays = {"weight": weight, "bias": np.zeros(weight.size) if bias is None else np.ravel(bias)}
    fields |= {"over": "channels"} if len(rows.shape) == 3 else {}
    found = made.add(operator, "layer_norm", [rows], fields, arrays)
    made.write(operator, put_back(made, operator, found, value, first) if turned else found)


def _rms_norm(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    first, last = axis_of(int(operator.attributes.get("axis", -1)), value), len(value.lengths) - 1
    rows, turned = brought_first(made, operator, value, first, last)
    fields = epsilon("rms_norm", float(operator.attributes.get("epsilon", 1e-5)))
    found = made.add(operator, "rms_norm", [rows], fields, {"weight": _parameters(made, operator, 1)[0]})
    made.write(operator, put_back(made, operator, found, value, first) if turned else found)


def _response_norm(made: Network, operator: Operator) -> None:
    attributes = operator.attributes
    given = {
        "size": int(attributes.get("size", 0)),
        "alpha": float(attributes.get("alpha", 1e-4)),
        "beta": float(attributes.get("beta", 0.75)),
        "k": float(attributes.get("bias", 1.0)),
    }
    usual = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
    fields = {
        name: float(np.format_float_positional(np.float32(value))) if name != "size" else value
        for name, value in given.items()
        if np.float32(value) != np.float32(usual[name])
    }
    made.write(operator, made.add(operator, "local_response_norm", [made.map(operator)], fields))


def _softmax(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    newer = made.source.opset >= 13
    first = axis_of(int(operator.attributes.get("axis", -1 if newer else 1)), value)
    last = first if newer else len(value.lengths) - 1
    rows, turned = brought_first(made, operator, value, first, last)
    found = made.add(operator, "softmax", [rows])
    made.write(operator, put_back(made, operator, found, value, first) if turned else found)


def _refused(made: Network, operator: Operator) -> None:
    raise Unsaid("no layer computes it", "softmax")


TRANSLATORS: Mapping[str, Translator] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "Hardmax": _refused,
    "InstanceNormalization": _instance_norm,
    "LRN": _response_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _refused,
    "RMSNormalization": _rms_norm,
    "Softmax": _softmax,
}
