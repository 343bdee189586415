"""Computes QuantizeLinear and DequantizeLinear of constants; onnx's reference knows their newest versions alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnnspec.convert.onnx_file import Operator
from cnnspec.kernels.step import Array


def _dequantised(operator: Operator, inputs: Sequence[Array]) -> Array:
    """(x - zero point) scale."""
    x, (scale, zero) = inputs[0], _settings(operator, inputs)
    return np.asarray((x.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32))


def _quantised(operator: Operator, inputs: Sequence[Array]) -> Array:
    """x / scale rounded to even, plus the zero point, in the limits of the zero point's type."""
    x, (scale, zero) = inputs[0], _settings(operator, inputs)
    limits = np.iinfo(zero.dtype)
    return np.asarray(np.clip(np.rint(x / scale) + zero, limits.min, limits.max), zero.dtype)


def _settings(operator: Operator, inputs: Sequence[Array]) -> tuple[Array, Array]:
    """Return the scale and the zero point, one for all numbers or one for each position along an axis.

    ValueError for those of blocks.
    """
    x, scale, *rest = inputs
    zero = rest[0] if rest else np.uint8(0)
    if operator.attributes.get("block_size"):
        raise ValueError("its scales are those of blocks")
    lengths = [1] * x.ndim
    if scale.size > 1:
        lengths[int(operator.attributes.get("axis", 1))] = scale.size
    settings = (np.asarray(array) for array in (scale, zero))
    scale, zero = (array.reshape(lengths) if array.size > 1 else array.reshape(()) for array in settings)
    return scale, zero


COMPUTED: Mapping[str, Callable[[Operator, Sequence[Array]], Array]] = {
    "DequantizeLinear": _dequantised,
    "QuantizeLinear": _quantised,
}
