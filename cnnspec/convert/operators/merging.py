"""Translates operators of several values: sums, products, extremes, concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.translator import Translator, axis_of, brought_first, put_back, refuse_unless
from cnnspec.convert.refusal import Unsaid


def merged(type: str, made: Network, operator: Operator) -> None:
    """Add a layer that reads all inputs of the operator; axes of length 1 are repeated."""
    values = [made.read(operator, position) for position in range(len(operator.inputs))]
    if len(values) == 1:
        made.write(operator, values[0])
        return
    ranks = {len(value.lengths) for value in values}
    refuse_unless(len(ranks) == 1, "its inputs have different numbers of axes", "a reshape to as many")
    if len({(value.lengths, value.shape) for value in values}) > 1:
        values = [_as_operand(made, operator, value) for value in values]
    repeats = type == "add" and len({value.shape for value in values}) > 1
    found = made.add(operator, type, values, {"broadcast": True} if repeats else {})
    made.write(operator, found)


def _as_operand(made: Network, operator: Operator, value: Value) -> Value:
    """Return the value in the file's shape; a vector that the file has as a map of one pixel stays a vector."""
    if len(value.shape) == 1 and prod(value.lengths[2:]) == 1:
        return value
    return made.canonical(operator, value)


def along(made: Network, operator: Operator, values: Sequence[Value], axis: int) -> Value:
    """Concatenate values along an axis of the file; the axis is exchanged with the channels for that if necessary."""
    first = values[0]
    before, after = prod(first.lengths[1:axis]), prod(first.lengths[axis + 1 :])
    if axis == 1:
        found = made.add(operator, "concat", [made.canonical(operator, value) for value in values])
    elif before == 1:
        inner = (1, after) if after > 1 else ()
        rows = [made.shaped(operator, value, (value.lengths[axis], *inner)) for value in values]
        found = made.add(operator, "concat", rows)
    else:
        rows = [brought_first(made, operator, value, axis, axis)[0] for value in values]
        found = put_back(made, operator, made.add(operator, "concat", rows), first, axis)
    length = sum(value.lengths[axis] for value in values)
    return replace(found, lengths=(*first.lengths[:axis], length, *first.lengths[axis + 1 :]))


def _concat(made: Network, operator: Operator) -> None:
    constants = [name for position, name in enumerate(operator.inputs) if made.is_constant(operator, position)]
    refuse_unless(not constants, "one of its inputs is a constant", "positions, or a layer in front of it")
    values = [made.read(operator, position) for position in range(len(operator.inputs))]
    axis = axis_of(int(operator.attributes.get("axis", 1)), values[0])
    if len(values) == 1:
        made.write(operator, values[0])
        return
    if axis == 1 and all(len(value.shape) == 1 and prod(value.lengths[2:]) == 1 for value in values):
        made.write(operator, made.add(operator, "concat", values))
        return
    made.write(operator, along(made, operator, values, axis))


def _refused(made: Network, operator: Operator) -> None:
    raise Unsaid("it selects by a condition", "multiply")


TRANSLATORS: Mapping[str, Translator] = {"Concat": _concat, "Where": _refused}
