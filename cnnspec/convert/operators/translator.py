"""The type of an operator's translator, and functions that several of them use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array

Translator = Callable[[Network, Operator], None]


def axis_of(axis: int, value: Value) -> int:
    """Return an axis as a number from 0; Unsaid for axis 0, which is the batch, and for an axis that does not exist."""
    rank = len(value.lengths)
    number = axis + rank if axis < 0 else axis
    if not 0 < number < rank:
        raise Unsaid(f"it works on axis {axis}, which is that of the images or none", "an axis of one image")
    return number


def brought_first(made: Network, operator: Operator, value: Value, first: int, last: int) -> tuple[Value, bool]:
    """Return a value whose channels are the axes `first` to `last`, and whether axes were exchanged for that.

    The other axes become the columns of a map, if there are any.
    """
    axes = value.lengths
    before, middle, after = prod(axes[1:first]), prod(axes[first : last + 1]), prod(axes[last + 1 :])
    if before == 1:
        if value.shape[0] == middle and (len(value.shape) == 3 or after == 1):
            return value, False
        return made.shaped(operator, value, (middle,) if after == 1 else (middle, 1, after)), False
    if after == 1 and len(axes) == 4 and first == last == 3:
        return made.permuted(operator, made.canonical(operator, value), (2, 0, 1)), True
    shaped = made.shaped(operator, value, (before, middle, after))
    return made.permuted(operator, shaped, (1, 0, 2)), True


def put_back(made: Network, operator: Operator, value: Value, like: Value, first: int) -> Value:
    """Undo the exchange of `brought_first` on the output of a layer."""
    last_of_map = len(like.lengths) == 4 and first == 3
    return made.permuted(operator, value, (1, 2, 0) if last_of_map else (1, 0, 2))


def refuse_unless(holds: bool, reason: str, nearest: str = "") -> None:
    """Raise Unsaid with a reason unless something holds."""
    if not holds:
        raise Unsaid(reason, nearest)


def pair(values: Sequence[int] | None, rank: int, default: int, rows: int = 1) -> list[int]:
    """Return lengths for rows and columns from one or two lengths; with only one axis, `rows` is used for rows."""
    numbers = list(values or [default] * rank)
    refuse_unless(len(numbers) == rank, f"expected {rank} lengths, got {numbers}")
    return numbers if rank == 2 else [rows, *numbers]


def weights(made: Network, operator: Operator) -> tuple[Array, Array | None]:
    """Return the second and third input of an operator as its weight and bias; Unsaid if they are computed."""
    weight, bias = made.constant(operator, 1), made.constant(operator, 2)
    refuse_unless(weight is not None and weight.dtype.kind == "f", "its weight is no array of floating-point numbers")
    assert weight is not None
    return weight, None if bias is None else np.ravel(bias)
