"""Recognises attention over the pixels of windows, in the operators that `export` writes for it."""

from __future__ import annotations

from math import isclose, sqrt
from typing import Any

import numpy as np

from cnnspec.convert.expression import Expression, Found, value_of
from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.translator import refuse_unless

ORDERS = {  # the axes of each Transpose
    "cut": [0, 2, 4, 3, 5, 1],
    "query": [0, 2, 1, 3],
    "key": [0, 2, 3, 1],
    "value": [0, 2, 1, 3],
    "together": [0, 2, 1, 3],
    "turned": [0, 5, 1, 3, 2, 4],
}


def write(made: Network, operator: Operator, found: Found) -> None:
    """Write attention: its heads are an axis of the weights' shape, its window two axes of the cut map's."""
    value = made.canonical(operator, value_of(made, found))
    for name, order in ORDERS.items():
        given = list(found[name].attributes.get("perm") or ())
        refuse_unless(given == order, f"the order of its axes is {given}, not {order}", "attention")
    (_, c, down, rows, across, columns), (_, heads, *_) = (
        made.source.lengths[found[name].output] for name in ("parts", "weights")
    )
    refuse_unless((c, down * rows, across * columns) == value.shape, f"its parts are no windows of {value.shape}")
    scale = float(np.ravel(found["scale"])[0])
    refuse_unless(isclose(scale, 1 / sqrt(c / heads), rel_tol=1e-5), f"its products are scaled by {scale:g}")
    fields: dict[str, Any] = {"heads": heads}
    if (rows, columns) != value.shape[1:]:
        fields["window"] = rows if rows == columns else [rows, columns]
    weights = [found[f"{name}_weight"].T for name in ("query", "key", "value")]
    arrays = {"in_weight": np.concatenate(weights), "out_weight": found["out_weight"].T}
    if "out_bias" in found:
        arrays["in_bias"] = np.concatenate([found[f"{name}_bias"] for name in ("query", "key", "value")])
        arrays["out_bias"] = found["out_bias"]
    else:
        fields["bias"] = "none"
    made.write(operator, made.add(operator, "attention", [value], fields, arrays))


def _expression(*, biased: bool) -> Expression:
    """Return the operators of attention, with or without biases."""

    def projected(name: str, source: Expression) -> Expression:
        product = ("MatMul", source, f"{name}_weight")
        return ("Add", product, f"{name}_bias") if biased else product

    pixels = ("Reshape", ("Transpose:cut", ("Reshape:parts", "X")))
    query, key, value = (
        (f"Transpose:{name}", ("Reshape", projected(name, pixels))) for name in ("query", "key", "value")
    )
    weights = ("Softmax:weights", ("Mul", ("MatMul", query, key), "scale"))
    together = ("Reshape", ("Transpose:together", ("MatMul", weights, value)))
    return ("Reshape", ("Transpose:turned", ("Reshape", projected("out", together))))


EXPRESSIONS = (_expression(biased=True), _expression(biased=False))
