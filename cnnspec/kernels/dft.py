"""Convolution by the discrete Fourier transform, for maps of few positions and many channels.

With X, W and Y the spectra of map, weights and result on a circle so long that no product wraps around,

    Y = X conj(W),    dX = dY W,    dW = X conj(dY),

frequency by frequency, summed over channels, filters and images: 2 real multiplications a position, channel and filter
where the definition has kh*kw. With real and imaginary parts above each other, X = (Xr; Xi), and W as a real matrix,

    M = (Wr, -Wi; Wi, Wr):    Y = M^T X,    dX = M dY,    dM = X dY^T,    dWr = dM11 + dM22,    dWi = dM21 - dM12,

so that each direction is one real product for each frequency, of spectra in the layout of the transform.
The three directions read the same spectra of map, weights and dy: either all of them are computed here or none.
Error: below that of the direct sum in float32. Source: Mathieu, Henaff, LeCun, "Fast training of convolutional
networks through FFTs" (2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from cnnspec.kernels.blocks import gradient_product, tall_product
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.kernel import Kernel, Work, nothing_to_prepare
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.spectrum import Circle, Places, analysis, synthesis
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.kernels.views import part

TILE = 1 << 17  # elements of a map that are transformed at a time: half a MiB stays in the cache between both axes
PARTS = 2  # real and imaginary: products have twice as many rows, which their price counts as columns
LARGEST = 1 << 22  # products for an image: with more, spectra of weights cost more memory than the saved time is worth


def _circle(problem: Problem) -> Circle:
    windows = problem.windows
    top, bottom, left, right = windows.padding
    return Circle(windows.height + max(top, bottom), windows.width + max(left, right))


def _taps(problem: Problem) -> Places:
    """The places of the taps on the circle for the first output, whose window begins in the padding."""
    windows = problem.windows
    (kh, kw), (dh, dw) = windows.kernel, windows.dilation
    return Places([i * dh - windows.padding[0] for i in range(kh)], [j * dw - windows.padding[2] for j in range(kw)])


def _supports(problem: Problem) -> bool:
    plain = problem.groups == 1 and problem.windows.stride == (1, 1) and prod(problem.windows.kernel) > 1
    return plain and _circle(problem).frequencies * 4 * problem.filters * problem.channels <= LARGEST


def _sizes(problem: Problem, n: int) -> tuple[int, int]:
    """The elements of two work arrays: channels of a tile with columns first, and the same after half the transform.

    Both are large enough for map and result.
    """
    windows, columns = problem.windows, _circle(problem).columns
    sides = ((windows.height, windows.width, problem.channels), (*windows.output, problem.filters))
    tiles = [(h, w, _channels_of_tile(h * w * n, c) * n) for h, w, c in sides]
    return max(prod(tile) for tile in tiles), max(h * columns * q for h, _, q in tiles)


def _channels_of_tile(each: int, channels: int) -> int:
    return max(1, min(channels, TILE // each))


def _tiles(array: Array, spectrum: Array, turned: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the channels of a tile, (w, h, c, n), the same of the spectrum, (frequencies, 2, c*n), and scratch."""
    h, c, w, n = array.shape
    by_channel, count = spectrum.reshape(-1, 2, c, n), _channels_of_tile(h * w * n, c)
    for first in range(0, c, count):
        channels = slice(first, min(first + count, c))
        tile = array[:, channels].transpose(2, 0, 1, 3)
        yield tile, by_channel[:, :, channels].reshape(-1, 2, tile.shape[2] * n), part(turned, tile.shape)


def _analyse(circle: Circle, source: Array, spectrum: Array, turned: Array, middle: Array) -> list[Step]:
    """Steps that write the spectrum (frequencies, 2*c, n) of a map (h, c, w, n)."""
    h, _, w, _ = source.shape
    steps: list[Step] = []
    for tile, frequencies, place in _tiles(source, spectrum, turned):
        plane = place.reshape(w, h, -1)
        half = part(middle, (circle.columns, h, plane.shape[-1]))
        steps += [copy(tile, place), *analysis(circle, Places(range(h), range(w)), plane, half, frequencies)]
    return steps


def _synthesise(circle: Circle, spectrum: Array, target: Array, turned: Array, middle: Array) -> list[Step]:
    """Steps that write the map (h, c, w, n) of a spectrum (frequencies, 2*c, n)."""
    h, _, w, _ = target.shape
    steps: list[Step] = []
    for tile, frequencies, place in _tiles(target, spectrum, turned):
        plane = place.reshape(w, h, -1)
        half = part(middle, (circle.columns, h, plane.shape[-1]))
        steps += [*synthesis(circle, Places(range(h), range(w)), frequencies, half, plane), copy(place, tile)]
    return steps


def _forward_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    circle, (kh, kw) = _circle(problem), problem.windows.kernel
    frequencies, weights = circle.frequencies, problem.filters * problem.channels
    turned, middle = _sizes(problem, n)
    return {
        "taps": Buffer((kw, kh, weights), "prepare"),
        "taps_middle": Buffer((circle.columns, kh, weights), "prepare"),
        "taps_spectrum": Buffer((frequencies, 2, weights), "prepare"),
        "matrices": Buffer((frequencies, 2 * problem.channels, 2 * problem.filters), "prepare"),
        "turned": Buffer((turned,), "forward"),
        "middle": Buffer((middle,), "forward"),
        "x_spectrum": Buffer((frequencies, 2 * problem.channels, n), "kept"),
        "y_spectrum": Buffer((frequencies, 2 * problem.filters, n), "forward"),
    }


def _prepare(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps that write the matrix M (channels by filters) of every frequency."""
    filters, channels, kh, kw = weight.shape
    taps, spectrum = buffers["taps"], buffers["taps_spectrum"]
    target, source = taps.reshape(kw, kh, channels, filters), weight.transpose(3, 2, 1, 0)
    parts = spectrum.reshape(-1, 2, channels, filters)
    matrices = buffers["matrices"].reshape(-1, 2, channels, 2, filters)
    upper, lower, imaginary = matrices[:, 0, :, 1], matrices[:, 1, :, 1], parts[:, 1]

    return [
        copy(source, target),
        *analysis(_circle(problem), _taps(problem), taps, buffers["taps_middle"], spectrum),
        copy(parts, matrices[:, :, :, 0]),
        copy(parts[:, 0], lower),
        partial(np.negative, imaginary, upper),
    ]


def _forward(problem: Problem, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    circle, turned, middle = _circle(problem), buffers["turned"], buffers["middle"]
    x_spectrum, y_spectrum = buffers["x_spectrum"], buffers["y_spectrum"]
    return [
        *_analyse(circle, x, x_spectrum, turned, middle),
        tall_product(buffers["matrices"].swapaxes(1, 2), x_spectrum, y_spectrum),
        *_synthesise(circle, y_spectrum, y, turned, middle),
    ]


def _gradient_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    turned, middle = _sizes(problem, n)
    return {
        "dy_turned": Buffer((turned,), "input"),
        "dy_middle": Buffer((middle,), "input"),
        "dy_spectrum": Buffer((_circle(problem).frequencies, 2 * problem.filters, n), "shared"),
    }


def _prepare_gradient(problem: Problem, dy: Array, buffers: Mapping[str, Array]) -> list[Step]:
    spectrum = buffers["dy_spectrum"]
    return _analyse(_circle(problem), dy, spectrum, buffers["dy_turned"], buffers["dy_middle"])


def _input_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    spectrum = Buffer((_circle(problem).frequencies, 2 * problem.channels, n), "input")
    return {**_gradient_scratch(problem, n), "dx_spectrum": spectrum}


def _input_gradient(problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    spectrum = buffers["dx_spectrum"]
    return [
        tall_product(buffers["matrices"], buffers["dy_spectrum"], spectrum),
        *_synthesise(_circle(problem), spectrum, dx, buffers["dy_turned"], buffers["dy_middle"]),
    ]


def _weight_scratch(problem: Problem, n: int) -> dict[str, Buffer]:
    circle, (kh, kw) = _circle(problem), problem.windows.kernel
    weights = problem.filters * problem.channels
    return {
        **_gradient_scratch(problem, n),
        "dmatrices": Buffer((circle.frequencies, 2, 2 * problem.channels, problem.filters), "params"),
        "dweight_spectrum": Buffer((circle.frequencies, 2, weights), "params"),
        "dweight_middle": Buffer((circle.columns, kh, weights), "params"),
        "dweight": Buffer((kw, kh, weights), "params"),
    }


def _weight_gradient(problem: Problem, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Steps for dM: its left and right halves lie apart, so that the parts that are added lie in long runs."""
    filters, channels, kh, kw = dweight.shape
    halves, spectrum, taps = buffers["dmatrices"], buffers["dweight_spectrum"], buffers["dweight"]
    count, n = len(spectrum), dy.shape[-1]
    target, origin = dweight.transpose(3, 2, 1, 0), taps.reshape(kw, kh, channels, filters)
    by_parts = buffers["dy_spectrum"].reshape(count, 2, filters, n)
    (left, right), (real, imaginary) = halves.reshape(count, 2, 2, -1).swapaxes(0, 1), spectrum.swapaxes(0, 1)

    def add() -> None:
        np.add(left[:, 0], right[:, 1], out=real)
        np.subtract(left[:, 1], right[:, 0], out=imaginary)

    return [
        gradient_product(buffers["x_spectrum"][:, None], by_parts, halves),
        add,
        *synthesis(_circle(problem), _taps(problem), spectrum, buffers["dweight_middle"], taps),
        copy(origin, target),
    ]


def _transform(problem: Problem, height: int, width: int, channels: int) -> Work:
    circle = _circle(problem)
    macs = height * circle.columns * width + 4 * height * circle.frequencies
    return Work(small=macs * channels, moved=(height * width + circle.frequencies) * channels)


def _products(problem: Problem) -> int:
    return 4 * _circle(problem).frequencies * problem.filters * problem.channels


def _of_map(problem: Problem) -> Work:
    return _transform(problem, problem.windows.height, problem.windows.width, problem.channels)


def _of_result(problem: Problem) -> Work:
    return _transform(problem, *problem.windows.output, problem.filters)


def _forward_work(problem: Problem) -> Work:
    products, x, y = _products(problem), _of_map(problem), _of_result(problem)
    # products as narrow as the batch take a fifth longer; once: spectra of the weights, writing M and reading M
    return Work(products * 6 // 5, x.moved + y.moved, small=x.small + y.small, once=3 * products, columns=PARTS)


def _input_work(problem: Problem) -> Work:
    return replace(_of_map(problem), macs=_products(problem) * 6 // 5, once=2 * _products(problem), columns=PARTS)


def _weight_work(problem: Problem) -> Work:
    products, dy = _products(problem), _of_result(problem)
    # the spectrum of dy, which the input's gradient reads too; sums over few images, so reading counts
    read = 2 * _circle(problem).frequencies * (problem.channels + problem.filters)
    return replace(dy, macs=products * 6 // 5, moved=dy.moved + read, once=4 * products, columns=PARTS)


FORWARD = Kernel("dft", _supports, _forward_work, _forward_scratch, _prepare, _forward, _prepare_gradient)
INPUT = Kernel("dft", _supports, _input_work, _input_scratch, nothing_to_prepare, _input_gradient, _prepare_gradient)
WEIGHT = Kernel(
    "dft", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient, _prepare_gradient
)
