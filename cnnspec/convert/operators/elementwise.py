"""Translates activations and other elementwise functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import channel_numbers, for_one_image, number, scaled
from cnnspec.convert.operators.translator import Translator, refuse_unless
from cnnspec.convert.refusal import Unsaid

SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}


def _plain(type: str, made: Network, operator: Operator, **fields: Any) -> None:
    made.write(operator, made.add(operator, type, [made.read(operator)], fields))


def _with_attribute(type: str, attribute: str, default: float, field: str, made: Network, operator: Operator) -> None:
    """Translate an activation with one attribute, which becomes a field of the layer."""
    value = float(operator.attributes.get(attribute, default))
    usual = {"leaky_relu": 0.01, "elu": 1.0}[type]
    fields = {} if np.float32(value) == np.float32(usual) else {field: number(value)}
    made.write(operator, made.add(operator, type, [made.read(operator)], fields))


def _selu(made: Network, operator: Operator) -> None:
    """Translate gamma elu(x): `selu` if gamma and alpha are the standard ones, else a scaled `elu`."""
    given = {name: float(operator.attributes.get(name, usual)) for name, usual in SELU.items()}
    if all(abs(given[name] - usual) < 1e-4 for name, usual in SELU.items()):
        _plain("selu", made, operator)
        return
    value = made.add(operator, "elu", [made.read(operator)], {"alpha": given["alpha"]})
    made.write(operator, scaled(made, operator, value, given["gamma"]))


def _celu(made: Network, operator: Operator) -> None:
    """Translate alpha elu(x / alpha)."""
    alpha, value = float(operator.attributes.get("alpha", 1.0)), made.read(operator)
    refuse_unless(alpha > 0, f"its alpha is {alpha:g}", "an alpha above 0")
    value = made.add(operator, "elu", [scaled(made, operator, value, 1 / alpha)])
    made.write(operator, scaled(made, operator, value, alpha))


def _hard_sigmoid(made: Network, operator: Operator) -> None:
    alpha, beta = (float(operator.attributes.get(name, usual)) for name, usual in (("alpha", 0.2), ("beta", 0.5)))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        _plain("hard_sigmoid", made, operator)
        return
    line = scaled(made, operator, made.read(operator), alpha, beta)
    made.write(operator, made.add(operator, "clip", [line], {"min": 0, "max": 1}))


def _clip(made: Network, operator: Operator) -> None:
    fields = {}
    for position, name in enumerate(("min", "max"), 1):
        bound = operator.attributes.get(name, made.constant(operator, position))
        if bound is not None and np.abs(np.float64(np.ravel(bound)[0])) < 3e38:
            fields[name] = number(float(np.ravel(bound)[0]))
    if not fields:
        made.write(operator, made.read(operator))
    elif fields == {"min": 0}:
        _plain("relu", made, operator)
    elif fields == {"min": 0, "max": 6}:
        _plain("relu6", made, operator)
    elif "min" in fields and "max" in fields and fields["min"] > fields["max"]:
        raise Unsaid(f"its bounds leave nothing: {fields}")
    else:
        _plain("clip", made, operator, **fields)


def _prelu(made: Network, operator: Operator) -> None:
    value, slope = made.read(operator), made.constant(operator, 1)
    assert slope is not None
    if made.source.opset < 7 and slope.ndim == 1 and len(value.lengths) > 2 and slope.size == value.lengths[1]:
        slope = slope.reshape(-1, *(1,) * (len(value.lengths) - 2))
    value, numbers = channel_numbers(made, operator, value, slope)
    if numbers is None:
        numbers = np.ravel(for_one_image(value, slope))
        value = made.shaped(operator, value, numbers.shape)
    weight = np.broadcast_to(numbers, value.shape[:1])
    made.write(operator, made.add(operator, "prelu", [value], {}, {"weight": weight}))


def _power(made: Network, operator: Operator) -> None:
    exponent = made.constant(operator, 1)
    assert exponent is not None
    refuse_unless(exponent.size == 1, "it has several exponents")
    power = float(np.ravel(exponent)[0])
    if power == 1:
        made.write(operator, made.read(operator))
        return
    refuse_unless(power == 2, f"its exponent is {power:g}", "square, for an exponent of 2")
    _plain("square", made, operator)


def _gelu(made: Network, operator: Operator) -> None:
    tanh = operator.attributes.get("approximate", "none") == "tanh"
    _plain("gelu", made, operator, **({"approximate": "tanh"} if tanh else {}))


def _swish(made: Network, operator: Operator) -> None:
    refuse_unless(operator.attributes.get("alpha", 1.0) == 1, "its alpha is not 1", "silu")
    _plain("silu", made, operator)


def _dropout(made: Network, operator: Operator) -> None:
    raise Unsaid("it drops values at inference too", "dropout, which does nothing then")


TRANSLATORS: Mapping[str, Translator] = {
    "Abs": partial(_plain, "abs"),
    "Celu": _celu,
    "Clip": _clip,
    "Dropout": _dropout,
    "Elu": partial(_with_attribute, "elu", "alpha", 1.0, "alpha"),
    "Exp": partial(_plain, "exp"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": partial(_plain, "hard_swish"),
    "LeakyRelu": partial(_with_attribute, "leaky_relu", "alpha", 0.01, "negative_slope"),
    "Mish": partial(_plain, "mish"),
    "PRelu": _prelu,
    "Pow": _power,
    "Relu": partial(_plain, "relu"),
    "Selu": _selu,
    "Sigmoid": partial(_plain, "sigmoid"),
    "Softplus": partial(_plain, "softplus"),
    "Swish": _swish,
    "Tanh": partial(_plain, "tanh"),
}
