"""Translates means, sums and extremes over axes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import scaled
from cnnspec.convert.operators.translator import Translator, axis_of, brought_first, refuse_unless

KINDS = {
    "mean": ("global_avg_pool2d", "avg_pool2d", "channel_mean"),
    "max": ("global_max_pool2d", "max_pool2d", "channel_max"),
}


def _reduce(kind: str, made: Network, operator: Operator, *, negative: bool = False, total: bool = False) -> None:
    value = made.read(operator)
    given = made.setting(operator, "axes", 1)
    rank = len(value.lengths)
    if given is None or given == []:
        if operator.attributes.get("noop_with_empty_axes"):
            made.write(operator, value)
            return
        given = list(range(rank))
    axes = sorted({axis_of(int(axis), value) for axis in given})
    count = prod(value.lengths[axis] for axis in axes)
    if negative:
        value = scaled(made, operator, value, -1)
    result = _reduced(kind, made, operator, value, axes)
    if total:
        result = scaled(made, operator, result, count)
    made.write(operator, scaled(made, operator, result, -1) if negative else result)


def _reduced(kind: str, made: Network, operator: Operator, value: Value, axes: list[int]) -> Value:
    over_map, window, channels = KINDS[kind]
    rank = len(value.lengths)
    if rank in (3, 4) and axes == list(range(2, rank)):
        return made.add(operator, over_map, [made.canonical(operator, value)])
    if rank == 4 and axes in ([2], [3]):
        shaped = made.canonical(operator, value)
        kernel = [shaped.shape[1], 1] if axes == [2] else [1, shaped.shape[2]]
        return made.add(operator, window, [shaped], {"kernel_size": kernel})
    refuse_unless(axes == list(range(axes[0], axes[-1] + 1)), f"it reduces axes {axes}, which do not adjoin")
    rows, _ = brought_first(made, operator, value, axes[0], axes[-1])
    if len(rows.shape) == 1:
        rows = made.shaped(operator, rows, (rows.shape[0], 1, 1))
    # What is left is one channel, whose pixels are the axes that stay, in their order.
    return made.add(operator, channels, [rows])


def _magnitudes(made: Network, operator: Operator) -> None:
    """Translate ReduceL1, the sum of absolute values."""
    name = operator.inputs[0]
    value = made.read(operator)
    made.values[name] = made.add(operator, "abs", [value])
    made.values[name] = Value(made.values[name].layer, value.shape, value.lengths, True)
    try:
        _reduce("mean", made, operator, total=True)
    finally:
        made.values[name] = value


TRANSLATORS: Mapping[str, Translator] = {
    "ReduceL1": _magnitudes,
    "ReduceMax": partial(_reduce, "max"),
    "ReduceMean": partial(_reduce, "mean"),
    "ReduceMin": partial(_reduce, "max", negative=True),
    "ReduceSum": partial(_reduce, "mean", total=True),
}
