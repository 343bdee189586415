"""The bias of a convolution: one number for each channel, or, untied, one for each position of its map."""

from __future__ import annotations

import numpy as np

from cnnspec.kernels import sums
from cnnspec.kernels.elementwise import accumulate, copy, sum_over
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Mode, Operands
from cnnspec.shapes import Shape, size


def bias_scratch(kind: str, shape: Shape, n: int, mode: Mode) -> dict[str, Buffer]:
    """Return a buffer that repeats the bias over a whole map if a single image is small: its addition is one call."""
    filters, height, width = shape
    spread = mode == "infer" and n == 1 and kind == "channel" and size(shape) <= sums.SMALL_MAP
    return {"bias": Buffer((height, filters, width, n), "prepare")} if spread else {}


def prepare_bias(o: Operands) -> list[Step]:
    """Bind the copy of the bias to the map of `bias_scratch`, if there is one."""
    if "bias" not in o.buffers:
        return []
    spread = o.buffers["bias"]
    return [copy(np.broadcast_to(o.params["bias"][:, None, None], spread.shape), spread)]


def add_bias(o: Operands) -> list[Step]:
    """Bind y += bias, if there is a bias: it is (filters,) or, untied, (filters, oh, ow)."""
    if "bias" not in o.params:
        return []
    bias, target = o.params["bias"], o.y
    if "bias" in o.buffers:
        spread = o.buffers["bias"][: len(o.y)]  # all rows are equal, and a part of the map has fewer
    elif bias.ndim == 1:
        target, spread = sums.rows_of(o.y), bias[:, None]
    else:
        spread = bias.transpose(1, 0, 2)[..., None]
    return [accumulate(target, spread)]


def bias_gradient(dy: Array, dbias: Array, rows: Array | None) -> Step:
    """Bind dbias = the sum of dy over elements with the same bias; `rows` is scratch (oh, filters), None if untied."""
    if rows is not None:
        return sums.channel_sum(dy, dbias, rows)
    source = dy.transpose(1, 0, 2, 3)  # (filters, oh, ow, n)
    return sum_over(-1, source, dbias)
