"""The input's gradient of a depthwise convolution, one filter a channel: dx adds w[c, tap] * dy[c], tap by tap.

Its products have one filter to sum over, so that multiplying elements is faster than multiplying matrices. In the
other directions they sum over the taps or over the columns, and windows as matrices stay ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from cnnspec.kernels.cases import Case, Kernel, Work, nothing_to_prepare
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.taps import taps


def _supports(case: Case) -> bool:
    return case.channels == case.filters == case.groups


def _work(case: Case) -> Work:
    return Work(0, 3 * case.channels * prod(case.windows.kernel) * prod(case.windows.output))


def _scratch(case: Case, n: int) -> dict[str, Buffer]:
    oh, ow = case.windows.output
    return {"product": Buffer((oh, case.channels, ow, n), "backward")}


def _input_gradient(case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    oh, c, ow, n = dy.shape
    rows, product = dy.reshape(oh, c, ow * n), buffers["product"]
    product_rows = product.reshape(oh, c, ow * n)
    by_position = weight.reshape(c, -1, 1)  # (c, kh*kw, 1)
    moves = [(by_position[:, tap.position], dx[tap.read], product[tap.write]) for tap in taps(case.windows)]

    def step() -> None:
        dx.fill(0)
        for factor, place, part in moves:
            np.multiply(rows, factor, out=product_rows)
            np.add(place, part, out=place)

    return [step]


INPUT = Kernel("depthwise", _supports, _work, _scratch, nothing_to_prepare, _input_gradient)
