"""Recognises groups of operators that form one layer, by an expression for each."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np

from cnnspec.convert import attention
from cnnspec.convert.expression import Expression, Found, Writer, matched, value_of
from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import number
from cnnspec.convert.operators.normalisation import epsilon
from cnnspec.convert.operators.translator import axis_of, brought_first, put_back
from cnnspec.convert.operators.windows import TRANSLATORS
from cnnspec.convert.refusal import Unsaid
from cnnspec.convert.simplify import Simplified
from cnnspec.layers.resample import AdaptiveAvgPool2d


@dataclass(frozen=True, slots=True)
class Match:
    """A group of operators found in a file: its last operator, and the values that it reads by name."""

    operator: Operator
    write: Writer
    found: Found

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the values that the group reads."""
        return tuple(value for value in self.found.values() if isinstance(value, str))


def matches(source: Simplified) -> dict[str, Match]:
    """Return the groups in a simplified file, by the name of the value that each computes."""
    producers = {name: operator for operator in source.operators for name in operator.outputs if name}
    result = {}
    for operator in source.operators:
        for expression, write in PATTERNS:
            if expression[0].partition(":")[0] != operator.type:
                continue
            bound = next(matched(expression, operator.output, {}, producers, source.constants), None)
            if bound is not None and not source.constants.keys() & set(Match(operator, write, bound).inputs):
                result[operator.output] = Match(operator, write, bound)
                break
    return result


def _activation(type: str, **fields: Any) -> Writer:
    def write(made: Network, operator: Operator, found: Found) -> None:
        made.write(operator, made.add(operator, type, [value_of(made, found)], fields))

    return write


def _hard_swish(made: Network, operator: Operator, found: Found) -> None:
    attributes = found["HardSigmoid"].attributes
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
        raise Unsaid(f"its slope is {alpha:g} and its shift {beta:g}", "hard_swish, of 1/6 and 1/2")
    _activation("hard_swish")(made, operator, found)


def _normalised(type: str) -> Writer:
    """Return a writer for (x - mean) / sqrt(mean of squares + epsilon) over some axes, or the same without the mean."""

    def write(made: Network, operator: Operator, found: Found) -> None:
        value, mean = value_of(made, found), found["ReduceMean"]
        axes = sorted(axis_of(int(axis), value) for axis in made.setting(mean, "axes", 1) or [])
        if not axes or axes != list(range(axes[0], axes[-1] + 1)):
            raise Unsaid(f"it normalises over axes {axes}", "axes side by side")
        rows, turned = brought_first(made, operator, value, axes[0], axes[-1])
        count = rows.shape[0]
        fields: dict[str, Any] = epsilon(type, float(np.ravel(found["e"])[0]))
        arrays = {"weight": np.ones(count)}
        if type == "layer_norm":
            arrays["bias"] = np.zeros(count)
            fields |= {"over": "channels"} if len(rows.shape) == 3 else {}
        made_rows = made.add(operator, type, [rows], fields, arrays)
        made.write(operator, put_back(made, operator, made_rows, value, axes[0]) if turned else made_rows)

    return write


def _response_norm(made: Network, operator: Operator, found: Found) -> None:
    """Write x / (k + alpha mean of squares over a window of channels) ^ beta."""
    value, pool = made.canonical(operator, value_of(made, found)), found["AveragePool"].attributes
    size = int((pool.get("kernel_shape") or [0])[0])
    lies = (pool.get("pads"), pool.get("strides"), pool.get("count_include_pad"))
    if lies != ([(size - 1) // 2, 0, size // 2, 0], [1, 1], 1):
        raise Unsaid("its windows of channels lie otherwise", "local_response_norm")
    fields = {"size": size, **{name: number(float(np.ravel(found[name])[0])) for name in ("alpha", "beta", "k")}}
    made.write(operator, made.add(operator, "local_response_norm", [value], fields))


def _adaptive(made: Network, operator: Operator, found: Found) -> None:
    """Write adaptive average pooling: products with two matrices whose rows average over bins."""
    value, left, right = value_of(made, found), found["rows"], found["columns"].T
    if len(value.lengths) != 4:
        raise Unsaid("it multiplies constants with vectors", "adaptive_avg_pool2d")
    value = made.canonical(operator, value)
    layer = AdaptiveAvgPool2d(output_size=(len(left), len(right)))
    for matrix, length in ((left, value.shape[1]), (right, value.shape[2])):
        if matrix.ndim != 2 or matrix.shape[1] != length:
            raise Unsaid(f"a constant of shape {matrix.shape} is no matrix of means", "adaptive_avg_pool2d")
        if not np.allclose(matrix, layer.weights(len(matrix), length), atol=1e-6):
            raise Unsaid("its constants are no means of bins", "adaptive_avg_pool2d")
    fields = {"output_size": [len(left), len(right)]}
    made.write(operator, made.add(operator, "adaptive_avg_pool2d", [value], fields))


def _mean_power(made: Network, operator: Operator, found: Found) -> None:
    """Write (mean of |x|^p)^(1/p) over windows."""
    value, pool = value_of(made, found), found["AveragePool"]
    power, root = (float(np.ravel(found[name])[0]) for name in ("p", "root"))
    if abs(power * root - 1) > 1e-5:
        raise Unsaid(f"its exponents are {power:g} and {root:g}", "exponents p and 1 / p")
    made.values[pool.inputs[0]] = value
    TRANSLATORS["AveragePool"](made, pool)
    if made.values[pool.output].layer == value.layer:  # windows of one number
        made.write(operator, made.add(operator, "abs", [value]))
        return
    draft = made.drafts[made.values[pool.output].layer]
    if "count_include_pad" in draft.fields:
        raise Unsaid("its windows count the padding", "count_include_pad: 0")
    draft.type, draft.fields = "lp_pool2d", {**draft.fields, "p": number(power)}
    made.write(operator, made.values[pool.output])


CENTRED = ("Sub", "X", ("ReduceMean", "X"))
HALF, THREE_TO_SIX = ("Mul", "X", 0.5), ("Clip", ("Add", "X", 3.0), 0.0, 6.0)
CURVE = ("Mul", ("Mul", "X", sqrt(2 / pi)), ("Add", ("Mul", ("Mul", "X", "X"), 0.044715), 1.0))
SCALED = (("Div", "X", sqrt(2)), ("Mul", "X", sqrt(0.5)))


def _root_mean_square(inner: Expression, square: Expression) -> Expression:
    return ("Div", inner, ("Sqrt", ("Add", ("ReduceMean", square), "e")))


PATTERNS: tuple[tuple[Expression, Writer], ...] = (
    (("Mul", "X", ("Sigmoid", "X")), _activation("silu")),
    (("Mul", "X", ("HardSigmoid", "X")), _hard_swish),
    (("Mul", "X", ("Div", THREE_TO_SIX, 6.0)), _activation("hard_swish")),
    (("Div", ("Mul", "X", THREE_TO_SIX), 6.0), _activation("hard_swish")),
    (("Div", THREE_TO_SIX, 6.0), _activation("hard_sigmoid")),
    (("Mul", "X", ("Tanh", ("Softplus", "X"))), _activation("mish")),
    *((("Mul", ("Mul", "X", ("Add", ("Erf", scaled), 1.0)), 0.5), _activation("gelu")) for scaled in SCALED),
    *((("Mul", HALF, ("Add", ("Erf", scaled), 1.0)), _activation("gelu")) for scaled in SCALED),
    (("Mul", HALF, ("Add", ("Tanh", CURVE), 1.0)), _activation("gelu", approximate="tanh")),
    *((expression, attention.write) for expression in attention.EXPRESSIONS),
    (_root_mean_square(CENTRED, ("Mul", CENTRED, CENTRED)), _normalised("layer_norm")),
    (_root_mean_square(CENTRED, ("Pow", CENTRED, 2.0)), _normalised("layer_norm")),
    (_root_mean_square("X", ("Mul", "X", "X")), _normalised("rms_norm")),
    (_root_mean_square("X", ("Pow", "X", 2.0)), _normalised("rms_norm")),
    (
        (
            "Div",
            "X",
            (
                "Pow",
                ("Add", ("Mul", ("Reshape", ("AveragePool", ("Reshape", ("Mul", "X", "X")))), "alpha"), "k"),
                "beta",
            ),
        ),
        _response_norm,
    ),
    (("MatMul", "rows", ("MatMul", "X", "columns")), _adaptive),
    (("Pow", ("AveragePool", ("Pow", ("Abs", "X"), "p")), "root"), _mean_power),
)
