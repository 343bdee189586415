"""A convolution of one image with the 2x2 max pooling behind it, as a single product.

The four places (u, v) of a window are four filters of one convolution of stride 2, W_uv: the same taps, u rows lower
and v columns further right among (kh + 1, kw + 1), zeros elsewhere. With P the patches that the windows of a map read,
(c*(kh+1)*(kw+1), rows*columns), and a last row of ones for the bias,

    y = max over u, v of (W_uv, b) P.

The rows of one image are so short that a product for each row spends its time on the call. A single product takes two
thirds of that time, though it has (kh + 1) / kh times as many multiplications, and the maxima are taken of whole maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product as pairs
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.blocks import product
from cnnspec.kernels.elementwise import clear, copy, maximum_of
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.shapes import Shape

WINDOW = 2, 2


def scratch(problem: Problem) -> dict[str, Buffer]:
    """The scratch arrays of `prepare` and `forward`."""
    windows, (rows, columns) = problem.windows, _pooled(problem)
    depth = prod(_taps(problem)) + 1
    buffers = {
        "places": Buffer((*WINDOW, problem.filters, depth), "prepare"),
        "patches": Buffer((depth, rows * columns)),
        "products": Buffer((*WINDOW, problem.filters, rows, columns)),
    }
    if any(windows.padding):
        buffers["padded"] = Buffer((windows.padded[0], problem.channels, windows.padded[1]))
    return buffers


def prepare(problem: Problem, weight: Array, bias: Array | float, buffers: Mapping[str, Array]) -> Step:
    """The step that writes the filters of the four places, from weights (filters, c, kh, kw), and their bias."""
    places, (kh, kw) = buffers["places"], problem.windows.kernel
    taps = places[..., :-1].reshape(*places.shape[:-1], *_taps(problem))
    targets = [taps[u, v, ..., u : u + kh, v : v + kw] for u, v in pairs(*map(range, WINDOW))]

    def step() -> None:
        places.fill(0)
        places[..., -1] = bias
        for target in targets:
            np.copyto(target, weight)

    return step


def forward(problem: Problem, x: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps that write the pooled map y (rows, filters, columns, 1) of x (h, c, w, 1)."""
    places, patches, products = buffers["places"], buffers["patches"], buffers["products"]
    (left, right), below = products
    source, steps = x[..., 0], list[Step]([partial(patches[-1].fill, 1)])
    if "padded" in buffers:
        windows, source = problem.windows, buffers["padded"]
        top, _, left_of, _ = windows.padding
        inner = source[top : top + windows.height, :, left_of : left_of + windows.width]
        steps += [*clear([source]), copy(x[..., 0], inner)]
    row, channel, column = source.strides
    target = patches[:-1].reshape(*_taps(problem), *products.shape[-2:])
    read = as_strided(source, target.shape, (channel, row, column, 2 * row, 2 * column), writeable=False)
    of_places = places.reshape(-1, len(patches))
    return [
        *steps,
        copy(read, target),
        product(of_places, patches, products.reshape(len(of_places), -1)),
        maximum_of(products[0], below, products[0]),
        maximum_of(left, right, left),
        copy(left, y[..., 0].swapaxes(0, 1)),
    ]


def _taps(problem: Problem) -> Shape:
    """The channels, rows and columns of a filter of one place: (c, kh + 1, kw + 1)."""
    kh, kw = problem.windows.kernel
    return (problem.channels, kh + 1, kw + 1)


def _pooled(problem: Problem) -> Shape:
    """The rows and columns of the pooled map."""
    return tuple(length // size for length, size in zip(problem.windows.output, WINDOW, strict=True))
