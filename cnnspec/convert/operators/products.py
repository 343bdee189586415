"""Translates matrix products: of a value and a constant matrix, and of two values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.translator import Translator, brought_first, put_back, refuse_unless, weights

EXCHANGED = [0, 2, 1]  # axes of a map whose rows and columns are exchanged


def _product(made: Network, operator: Operator) -> None:
    """Translate MatMul with a constant matrix: a dense layer, or a 1x1 convolution if there are several rows."""
    refuse_unless(
        not made.is_constant(operator, 0), "its first factor is a constant", "a constant as the second factor"
    )
    if not made.is_constant(operator, 1):
        _product_of_values(made, operator)
        return
    weight, _ = weights(made, operator)
    value = made.read(operator)
    refuse_unless(weight.ndim == 2, f"its constant has {weight.ndim} axes, not two")
    refuse_unless(len(value.lengths) >= 2, "it reads a single axis")
    turned = weight.T
    if prod(value.lengths[1:-1]) == 1:
        value = made.shaped(operator, value, (value.lengths[-1],))
        made.write(
            operator,
            made.add(operator, "dense", [value], {"units": turned.shape[0], "bias": "none"}, {"weight": turned}),
        )
        return
    last = len(value.lengths) - 1
    rows, _ = brought_first(made, operator, value, last, last)
    fields = {"filters": turned.shape[0], "kernel_size": 1, "bias": "none"}
    result = made.add(operator, "conv2d", [rows], fields, {"weight": turned[:, :, None, None]})
    made.write(operator, put_back(made, operator, result, value, last))


def _product_of_values(made: Network, operator: Operator) -> None:
    """Translate MatMul of two values with as many axes: each channel's matrices by themselves."""
    first, second = (made.read(operator, position) for position in (0, 1))
    rank = len(first.lengths)
    refuse_unless(
        rank == len(second.lengths) >= 3 and first.lengths[:-2] == second.lengths[:-2],
        "its factors have other axes in front of rows and columns",
        "matmul, of two maps with as many channels",
    )
    matrices = [_matrices(made, operator, value) for value in (first, second)]
    turned = [_before_exchange(made, value) for value in matrices]
    if turned[1] is not None:
        fields, matrices = {"transpose": "second"}, [matrices[0], turned[1]]
    elif turned[0] is not None:
        fields, matrices = {"transpose": "first"}, [turned[0], matrices[1]]
    else:
        fields = {}
    result = made.add(operator, "matmul", matrices, fields)
    made.write(operator, replace(result, lengths=(*first.lengths[:-1], second.lengths[-1])))


def _matrices(made: Network, operator: Operator, value: Value) -> Value:
    """Return the value as a map of which each channel is a matrix."""
    *before, rows, columns = value.lengths[1:]
    return made.shaped(operator, value, (prod(before), rows, columns))


def _before_exchange(made: Network, value: Value) -> Value | None:
    """Return the value whose rows and columns are exchanged to give this one; None if there is none."""
    source, order = made.before_permutation(value)
    return source if order == EXCHANGED else None


TRANSLATORS: Mapping[str, Translator] = {"MatMul": _product}
