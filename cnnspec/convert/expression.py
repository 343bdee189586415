"""Matches groups of operators with expressions, which are nested like the operators.

X in an expression is any value, the same wherever it occurs; a number is a constant in which all elements equal it;
another name is any constant. The operands of Add and Mul may be exchanged. A name behind the type of an operator and a
colon stands for this operator, the same wherever it occurs; operators without one are found by their type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import Unknown
from cnnspec.kernels.step import Array

Expression = Any  # a name of a value or constant, a number, or an operator with operands
Found = Mapping[str, Any]  # by name: names of values, arrays of constants; by type: operators
Writer = Callable[[Network, Operator, Found], None]


def value_of(made: Network, found: Found) -> Value:
    """Return the value that a group reads; Unknown if it comes from a refused operator."""
    name = found["X"]
    if name not in made.values:
        raise Unknown(f"'{name}' is unknown")
    return made.values[name]


def matched(
    expression: Expression,
    name: str,
    bound: dict[str, Any],
    producers: Mapping[str, Operator],
    constants: Mapping[str, Array],
) -> Iterator[dict[str, Any]]:
    """Yield what the names in an expression stand for if it computes the value `name`, beside what `bound` says."""
    if isinstance(expression, str) and expression.isupper():
        if name not in constants and bound.get(expression, name) == name:
            yield {**bound, expression: name}
    elif isinstance(expression, str):
        if name in constants:
            yield {**bound, expression: constants[name]}
    elif isinstance(expression, int | float):
        constant = constants.get(name)
        if constant is not None and constant.size and np.allclose(constant, expression, rtol=1e-5, atol=1e-7):
            yield bound
    else:
        operator, (said, *operands) = producers.get(name), expression
        kind, _, called = said.partition(":")
        inputs = [] if operator is None else [given for given in operator.inputs if given]
        if operator is None or operator.type != kind or operator.domain or len(inputs) < len(operands):
            return
        if called and bound.get(called, operator) is not operator:
            return
        orders = permutations(operands) if kind in ("Add", "Mul") else [tuple(operands)]
        for order in orders:
            yield from _match_all(order, inputs, {**bound, called or kind: operator}, producers, constants)


def _match_all(
    operands: tuple[Expression, ...],
    names: list[str],
    bound: dict[str, Any],
    producers: Mapping[str, Operator],
    constants: Mapping[str, Array],
) -> Iterator[dict[str, Any]]:
    if not operands:
        yield bound
        return
    for more in matched(operands[0], names[0], bound, producers, constants):
        yield from _match_all(operands[1:], names[1:], more, producers, constants)
