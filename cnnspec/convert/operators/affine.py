"""Additions and multiplications with constants: they become biases, scales or shifts of the layer before, or layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cnnspec.convert.network import Draft, Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.merging import merged
from cnnspec.convert.operators.translator import Translator, refuse_unless
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array

WRITTEN = 4  # most numbers written in the spec itself; more become learned parameters
NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm")
LINEAR = ("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense")


def number(value: float) -> float | int:
    """Return a number as a person writes it: without the rounding noise of float32, and as an integer if whole."""
    short = float(np.format_float_positional(np.float32(value))) if np.isfinite(value) else float(value)
    return int(short) if short == int(short) and abs(short) < 1e6 else short


def scaled(made: Network, operator: Operator, value: Value, scale: float = 1.0, shift: float = 0.0) -> Value:
    """Add a layer that computes scale x + shift with two fixed numbers."""
    fields: dict[str, Any] = {"scale": number(scale), "shift": number(shift), "learned": False}
    if scale == 1:
        fields["scale"] = "none"
    if shift == 0:
        fields["shift"] = "none"
    return made.add(operator, "scale_shift", [value], fields) if (scale, shift) != (1, 0) else value


def channel_numbers(made: Network, operator: Operator, value: Value, constant: Array) -> tuple[Value, Array | None]:
    """Return a constant as one number for each channel or one for all; None if pixels of a channel differ.

    The value is also returned, in the shape whose channels the numbers belong to.
    """
    refuse_unless(constant.dtype.kind == "f", f"its constant is of type {constant.dtype}")
    if constant.size == 1:
        return value, np.ravel(constant)
    every = for_one_image(value, constant)
    for shaped in (value, made.canonical(operator, value) if value.shape != value.canonical else None):
        if shaped is not None:
            numbers = every.reshape(shaped.shape)
            first = numbers[:, :1, :1] if numbers.ndim == 3 else numbers
            if np.array_equal(np.broadcast_to(first, numbers.shape), numbers):
                return shaped, np.ravel(first)
    return made.canonical(operator, value), None


def for_one_image(value: Value, constant: Array) -> Array:
    """Return the constant in the shape of one image; Unsaid if images differ or the output is larger."""
    rank = len(value.lengths)
    refuse_unless(constant.ndim <= rank, "its constant has more axes than the value", "as many axes")
    lengths = (1,) * (rank - constant.ndim) + constant.shape
    aligned = constant.reshape(lengths)
    if rank and lengths[0] != 1:
        refuse_unless(bool((aligned == aligned[:1]).all()), "its constant has other numbers for each image")
        aligned = aligned[:1]
    try:
        return np.broadcast_to(aligned[0] if rank else aligned, value.lengths[1:])
    except ValueError:
        raise Unsaid(f"a constant of shape {list(constant.shape)} makes the value larger") from None


def _combine(type: str, made: Network, operator: Operator) -> None:
    """Translate Add, Sub, Mul or Div: of two values, or of a value and a constant as an affine map of each channel."""
    constants = [made.is_constant(operator, position) for position in (0, 1)]
    if not any(constants):
        _of_values(type, made, operator)
        return
    value, constant = made.read(operator, int(constants[0])), made.constant(operator, int(not constants[0]))
    assert constant is not None
    constant = _aligned(operator, made, constant, value)
    if type == "Div":
        refuse_unless(constants[1], "it divides a constant by the value")
        refuse_unless(bool((constant != 0).all()), "it divides by 0")
        constant = 1 / constant.astype(np.float64)
    source, order, numbers = _before_permutation(made, value, constant)
    if numbers is None:
        value, numbers = channel_numbers(made, operator, value, constant)
    if numbers is None and type in ("Add", "Sub"):
        _for_every_pixel(type, made, operator, value, constant, minus=constants[0])
        return
    if numbers is None:
        numbers = for_one_image(value, constant).reshape(-1)
        value = made.shaped(operator, value, numbers.shape)
    scale, shift = np.ones(1), np.zeros(1)
    if type in ("Mul", "Div"):
        scale = numbers.astype(np.float64)
    elif type == "Add":
        shift = numbers.astype(np.float64)
    elif constants[0]:
        scale, shift = -np.ones(1), numbers.astype(np.float64)
    else:
        shift = -numbers.astype(np.float64)
    if order:
        made.write(operator, made.permuted(operator, _affine(made, operator, source, scale, shift), order))
    else:
        made.write(operator, _affine(made, operator, value, scale, shift))


def _before_permutation(made: Network, value: Value, constant: Array) -> tuple[Value, list[int], Array | None]:
    """Return the value before a permutation, its order, and the constant as a number for each channel there.

    The numbers are None, and the order is empty, if there is no permutation or if pixels of a channel differ.
    """
    source, order = made.before_permutation(value)
    if not order or constant.size == 1 or constant.dtype.kind != "f":
        return source, [], None
    every = for_one_image(value, constant).reshape(value.shape).transpose(np.argsort(order))
    numbers = every[:, :1, :1]
    if not np.array_equal(np.broadcast_to(numbers, every.shape), every):
        return source, [], None
    return source, order, np.ravel(numbers)


def _aligned(operator: Operator, made: Network, constant: Array, value: Value) -> Array:
    """Return the constant with the axes that opsets before 7 add at its end, as the attribute `axis` says."""
    if made.source.opset >= 7 or not operator.attributes.get("broadcast"):
        return constant
    axis = operator.attributes.get("axis")
    if axis is None:
        return constant
    behind = len(value.lengths) - int(axis) % max(len(value.lengths), 1) - constant.ndim
    refuse_unless(behind >= 0, f"its axis is {axis}")
    return constant.reshape(*constant.shape, *(1,) * behind)


def _for_every_pixel(type: str, made: Network, operator: Operator, value: Value, constant: Array, minus: bool) -> None:
    numbers = for_one_image(value, constant).reshape(value.shape)
    if type == "Sub" and minus:
        value = scaled(made, operator, value, -1)
    elif type == "Sub":
        numbers = -numbers
    made.write(operator, made.add(operator, "positions", [value], {}, {"weight": np.array(numbers)}))


def _affine(made: Network, operator: Operator, value: Value, scale: Array, shift: Array) -> Value:
    """Compute scale x + shift for each channel, within the layer before if that is possible."""
    channels = value.shape[0]
    draft = made.changeable(value, *NORMS, *LINEAR, "scale_shift")
    if draft is not None and _taken_in(draft, operator, channels, scale, shift):
        return value
    written = max(scale.size, shift.size) <= WRITTEN
    fields: dict[str, Any] = {}
    arrays = {}
    for name, numbers, neutral in (("scale", scale, 1), ("shift", shift, 0)):
        if (numbers == neutral).all():
            fields[name] = "none"
        elif written:
            listed = [number(value) for value in numbers]
            fields[name] = listed[0] if len(listed) == 1 else listed
        else:
            arrays[name] = np.broadcast_to(numbers, (channels,))
    if written:
        fields["learned"] = False
    if fields.get("scale") == "none" == fields.get("shift"):
        return value
    return made.add(operator, "scale_shift", [value], fields, arrays)


def _taken_in(draft: Draft, operator: Operator, channels: int, scale: Array, shift: Array) -> bool:
    """Change the layer that computes the value so that it also scales and shifts; return whether that was possible."""
    scales, shifts = bool((scale != 1).any()), bool((shift != 0).any())
    whole_scale, whole_shift = (np.broadcast_to(numbers, (channels,)) for numbers in (scale, shift))
    if draft.type in LINEAR:
        if scales or draft.fields.get("bias") != "none":
            return False
        del draft.fields["bias"]
        draft.arrays["bias"] = whole_shift.astype(np.float32)
        draft.notes.append(f"{operator.type} is its bias")
        return True
    if draft.type == "scale_shift":
        return _compose(draft, channels, scale, shift)
    fresh = not shifts or ("bias" in draft.arrays and not draft.arrays["bias"].any())
    if not fresh or (scales and not (draft.arrays["weight"] == 1).all()):
        return False
    for name in ("weight", "bias"):
        if name in draft.arrays:
            added = whole_shift if name == "bias" else 0
            draft.arrays[name] = (draft.arrays[name].astype(np.float64) * whole_scale + added).astype(np.float32)
    draft.notes.append(f"{operator.type} is in its {'weight' if operator.type in ('Mul', 'Div') else 'bias'}")
    return True


def _compose(draft: Draft, channels: int, scale: Array, shift: Array) -> bool:
    factors = {}
    for name, neutral in (("scale", 1.0), ("shift", 0.0)):
        written = draft.fields.get(name)
        stored = draft.arrays.get(name, neutral if written == "none" or written is None else written)
        factors[name] = np.ravel(np.asarray(stored, np.float64))
    factors = {"scale": factors["scale"] * scale, "shift": factors["shift"] * scale + shift}
    short = max(numbers.size for numbers in factors.values()) <= WRITTEN
    draft.fields, draft.arrays = ({"learned": False} if short else {}), {}
    for name, neutral in (("scale", 1.0), ("shift", 0.0)):
        numbers = factors[name]
        if (numbers == neutral).all():
            draft.fields[name] = "none"
        elif short:
            draft.fields[name] = float(numbers[0]) if numbers.size == 1 else [float(number) for number in numbers]
        else:
            draft.arrays[name] = np.broadcast_to(numbers, (channels,)).astype(np.float32)
    if draft.fields.get("scale") == "none" == draft.fields.get("shift"):
        draft.fields = {"scale": 1.0, "shift": "none", "learned": False}
    return True


def _of_values(type: str, made: Network, operator: Operator) -> None:
    if type == "Mul" and operator.inputs[0] == operator.inputs[1]:
        made.write(operator, made.add(operator, "square", [made.read(operator)]))
        return
    refuse_unless(type != "Div", "it divides one value by another", "multiply")
    merged({"Add": "add", "Sub": "subtract", "Mul": "multiply"}[type], made, operator)


def _negated(made: Network, operator: Operator) -> None:
    made.write(operator, _affine(made, operator, made.read(operator), -np.ones(1), np.zeros(1)))


def _bound(type: str, made: Network, operator: Operator) -> None:
    """Translate Max or Min: of several values, or of a value and a single number as a bound."""
    numbers = [i for i in range(len(operator.inputs)) if made.is_constant(operator, i)]
    if not numbers:
        merged("maximum" if type == "max" else "minimum", made, operator)
        return
    refuse_unless(len(operator.inputs) == 2, "it has several constants", "one at a time")
    constant = made.constant(operator, numbers[0])
    assert constant is not None
    refuse_unless(constant.size == 1, "its constant is no single number", "clip, with one bound for all")
    value, bound = made.read(operator, 1 - numbers[0]), float(np.ravel(constant)[0])
    refuse_unless(constant.ndim <= len(value.lengths), "its constant has more axes than the value")
    if type == "max" and bound == 0:
        made.write(operator, made.add(operator, "relu", [value]))
        return
    made.write(operator, made.add(operator, "clip", [value], {"min" if type == "max" else "max": bound}))


def _mean_of_values(made: Network, operator: Operator) -> None:
    count = len(operator.inputs)
    if count == 1:
        made.write(operator, made.read(operator))
        return
    merged("add", made, operator)
    value = made.values.pop(operator.output)
    made.write(operator, scaled(made, operator, value, 1 / count), value.lengths)


def _sum(made: Network, operator: Operator) -> None:
    if len(operator.inputs) == 1:
        made.write(operator, made.read(operator))
    elif len(operator.inputs) == 2:
        _combine("Add", made, operator)
    else:
        merged("add", made, operator)


TRANSLATORS: Mapping[str, Translator] = {
    "Add": partial(_combine, "Add"),
    "Div": partial(_combine, "Div"),
    "Max": partial(_bound, "max"),
    "Mean": _mean_of_values,
    "Min": partial(_bound, "min"),
    "Mul": partial(_combine, "Mul"),
    "Neg": _negated,
    "Sub": partial(_combine, "Sub"),
    "Sum": _sum,
}
