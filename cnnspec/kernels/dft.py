"""Convolution by the discrete Fourier transform, for maps of few positions and many channels.

With X, W and Y the spectra of map, weights and result on a circle so long that no product wraps around,

    Y = X conj(W),    dX = dY W,    dW = X conj(dY),

frequency by frequency, summed over channels, filters and images: 2 real multiplications a position, channel and filter
where the definition has kh*kw. With the parts of W stacked, S = (Wr; Wi), and those of X turned, T = (Xi; -Xr),

    Yr = S^T X,  Yi = S^T T,    P = S dY,  dXr = Pr of dYr - Pi of dYi,  dXi = Pi of dYr + Pr of dYi,

    dS = (X, T) (dYr, dYi)^T,

so that each direction is real products, and W, the largest of the spectra, is multiplied with as it is transformed.
The three directions share the spectra of map, weights and dy: either all of them are computed here or none.
Error: below that of the direct sum in float32. Source: Mathieu, Henaff, LeCun, "Fast training of convolutional
networks through FFTs" (2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from cnnspec.kernels.blocks import tall_product
from cnnspec.kernels.cases import Case, Kernel, Work, copy, copy_runs, nothing_to_prepare, part
from cnnspec.kernels.spectrum import Circle, Places, analysis, synthesis
from cnnspec.kernels.step import Array, Buffer, Step, in_turn

CACHE = 1 << 17  # elements of a map that are transformed at a time
LARGEST = 1 << 22  # products an image: beyond, the weights' spectra cost more memory than their products save time


def _circle(case: Case) -> Circle:
    windows = case.windows
    top, bottom, left, right = windows.padding
    return Circle(windows.height + max(top, bottom), windows.width + max(left, right))


def _taps(case: Case) -> Places:
    """Where the taps lie on the circle when the window of the first output has its corner in the padding."""
    windows = case.windows
    (kh, kw), (dh, dw) = windows.kernel, windows.dilation
    return Places([i * dh - windows.padding[0] for i in range(kh)], [j * dw - windows.padding[2] for j in range(kw)])


def _supports(case: Case) -> bool:
    plain = case.groups == 1 and case.windows.stride == (1, 1) and prod(case.windows.kernel) > 1
    return plain and _circle(case).frequencies * 4 * case.filters * case.channels <= LARGEST


def _sizes(case: Case, n: int) -> tuple[int, int]:
    """Elements of the channels transformed at a time, turned, and half transformed: the larger of map and result."""
    windows, columns = case.windows, _circle(case).columns
    sides = ((windows.height, windows.width, case.channels), (*windows.output, case.filters))
    tiles = [(h, w, _channels_of_tile(h * w * n, c) * n) for h, w, c in sides]
    return max(prod(tile) for tile in tiles), max(h * columns * q for h, _, q in tiles)


def _channels_of_tile(each: int, channels: int) -> int:
    return max(1, min(channels, CACHE // each))


def _tiles(array: Array, spectrum: Array, turned: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Some channels of a map (w, h, c, n), the same of its spectrum (frequencies, 2, c*n), and a place to turn them."""
    h, c, w, n = array.shape
    by_channel, count = spectrum.reshape(-1, 2, c, n), _channels_of_tile(h * w * n, c)
    for first in range(0, c, count):
        channels = slice(first, min(first + count, c))
        tile = array[:, channels].transpose(2, 0, 1, 3)
        yield tile, by_channel[:, :, channels].reshape(-1, 2, tile.shape[2] * n), part(turned, tile.shape)


def _analyse(circle: Circle, source: Array, spectrum: Array, turned: Array, middle: Array) -> list[Step]:
    """The spectrum (frequencies, 2*c, n) of a map (h, c, w, n)."""
    h, _, w, _ = source.shape
    steps: list[Step] = []
    for tile, frequencies, place in _tiles(source, spectrum, turned):
        plane = place.reshape(w, h, -1)
        half = part(middle, (circle.columns, h, plane.shape[-1]))
        steps += [copy(tile, place), *analysis(circle, Places(range(h), range(w)), plane, half, frequencies)]
    return steps


def _synthesise(circle: Circle, spectrum: Array, target: Array, turned: Array, middle: Array) -> list[Step]:
    """The map (h, c, w, n) of a spectrum (frequencies, 2*c, n)."""
    h, _, w, _ = target.shape
    steps: list[Step] = []
    for tile, frequencies, place in _tiles(target, spectrum, turned):
        plane = place.reshape(w, h, -1)
        half = part(middle, (circle.columns, h, plane.shape[-1]))
        steps += [*synthesis(circle, Places(range(h), range(w)), frequencies, half, plane), copy(place, tile)]
    return steps


def _forward_scratch(case: Case, n: int) -> dict[str, Buffer]:
    circle, (kh, kw) = _circle(case), case.windows.kernel
    frequencies, weights = circle.frequencies, case.filters * case.channels
    turned, middle = _sizes(case, n)
    return {
        "taps": Buffer((kw, kh, weights), "prepare"),
        "taps_middle": Buffer((circle.columns, kh, weights), "prepare"),
        "taps_spectrum": Buffer((frequencies, 2 * case.channels, case.filters), "prepare"),
        "turned": Buffer((turned,), "forward"),
        "middle": Buffer((middle,), "forward"),
        "x_spectrum": Buffer((frequencies, 2, case.channels, n), "forward"),
        "x_pairs": Buffer((frequencies, 2, case.channels, 2, n), "kept"),
        "y_spectrum": Buffer((frequencies, 2, case.filters, n), "forward"),
    }


def _prepare(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """S of every frequency, channels by filters."""
    filters, channels, kh, kw = weight.shape
    taps, spectrum = buffers["taps"], buffers["taps_spectrum"]
    target, source = taps.reshape(kw, kh, channels, filters), weight.transpose(3, 2, 1, 0)
    by_parts = spectrum.reshape(len(spectrum), 2, -1)
    return [copy(source, target), *analysis(_circle(case), _taps(case), taps, buffers["taps_middle"], by_parts)]


def _pair(spectrum: Array, pairs: Array) -> Step:
    """(X, T) of every frequency, (2*c, 2*n), from X."""
    (real, imaginary), upper, lower = spectrum.swapaxes(0, 1), pairs[:, 0], pairs[:, 1]
    copies = [(real, upper[:, :, 0]), (imaginary, upper[:, :, 1]), (imaginary, lower[:, :, 0])]
    negated = lower[:, :, 1]

    def negate() -> None:
        np.negative(real, out=negated)

    return in_turn([*(copy_runs(*pair) for pair in copies), negate])


def _forward(case: Case, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
    circle, turned, middle = _circle(case), buffers["turned"], buffers["middle"]
    x_spectrum, y_spectrum = buffers["x_spectrum"], buffers["y_spectrum"]
    pairs, transposed = buffers["x_pairs"], buffers["taps_spectrum"].transpose(0, 2, 1)
    columns = pairs.reshape(len(pairs), -1, *pairs.shape[-2:]).transpose(0, 2, 1, 3)  # (frequencies, 2, 2*c, n)
    return [
        *_analyse(circle, x, x_spectrum, turned, middle),
        _pair(x_spectrum, pairs),
        tall_product(transposed[:, None], columns, y_spectrum),
        *_synthesise(circle, y_spectrum, y, turned, middle),
    ]


def _shared_scratch(case: Case, n: int) -> dict[str, Buffer]:
    turned, middle = _sizes(case, n)
    return {
        "dy_turned": Buffer((turned,), "backward"),
        "dy_middle": Buffer((middle,), "backward"),
        "dy_spectrum": Buffer((_circle(case).frequencies, 2, case.filters, n), "backward"),
    }


def _share(case: Case, dy: Array, buffers: Mapping[str, Array]) -> list[Step]:
    spectrum = buffers["dy_spectrum"]
    return _analyse(_circle(case), dy, spectrum, buffers["dy_turned"], buffers["dy_middle"])


def _input_scratch(case: Case, n: int) -> dict[str, Buffer]:
    frequencies = _circle(case).frequencies
    return {
        **_shared_scratch(case, n),
        "dx_products": Buffer((frequencies, 2, 2, case.channels, n), "backward"),
        "dx_spectrum": Buffer((frequencies, 2, case.channels, n), "backward"),
    }


def _input_gradient(case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]) -> list[Step]:
    spectrum, products = buffers["dx_spectrum"], buffers["dx_products"]
    stacked = products.reshape(*products.shape[:2], -1, dy.shape[-1])
    of_real, of_imaginary = products.swapaxes(0, 1)
    real, imaginary = spectrum.swapaxes(0, 1)

    def combine() -> None:
        np.subtract(of_real[:, 0], of_imaginary[:, 1], out=real)
        np.add(of_real[:, 1], of_imaginary[:, 0], out=imaginary)

    return [
        tall_product(buffers["taps_spectrum"][:, None], buffers["dy_spectrum"], stacked),
        combine,
        *_synthesise(_circle(case), spectrum, dx, buffers["dy_turned"], buffers["dy_middle"]),
    ]


def _weight_scratch(case: Case, n: int) -> dict[str, Buffer]:
    circle, (kh, kw) = _circle(case), case.windows.kernel
    weights = case.filters * case.channels
    return {
        **_shared_scratch(case, n),
        "dy_transposed": Buffer((circle.frequencies, 2, n, case.filters), "backward"),
        "dweight_spectrum": Buffer((circle.frequencies, 2 * case.channels, case.filters), "backward"),
        "dweight_middle": Buffer((circle.columns, kh, weights), "backward"),
        "dweight": Buffer((kw, kh, weights), "backward"),
    }


def _weight_gradient(case: Case, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Sums over parts and images in one product; a copy of dY turns a @ b.T, slow for few images, into a @ b."""
    filters, channels, kh, kw = dweight.shape
    transposed, source = buffers["dy_transposed"], buffers["dy_spectrum"].transpose(0, 1, 3, 2)
    spectrum, taps, count = buffers["dweight_spectrum"], buffers["dweight"], len(transposed)
    target, origin = dweight.transpose(3, 2, 1, 0), taps.reshape(kw, kh, channels, filters)
    pairs, by_parts = buffers["x_pairs"].reshape(count, 2 * channels, -1), spectrum.reshape(count, 2, -1)
    return [
        copy(source, transposed),
        tall_product(pairs, transposed.reshape(count, -1, filters), spectrum),
        *synthesis(_circle(case), _taps(case), by_parts, buffers["dweight_middle"], taps),
        copy(origin, target),
    ]


def _transform(case: Case, height: int, width: int, channels: int) -> Work:
    circle = _circle(case)
    macs = height * circle.columns * width + 4 * height * circle.frequencies
    return Work(macs * channels, (height * width + circle.frequencies) * channels)


def _products(case: Case) -> int:
    return 4 * _circle(case).frequencies * case.filters * case.channels


def _forward_work(case: Case) -> Work:
    products = _products(case)
    x = _transform(case, case.windows.height, case.windows.width, case.channels)
    y = _transform(case, *case.windows.output, case.filters)
    return Work(x.macs + y.macs + products, x.moved + y.moved, once=3 * products)  # a third for the weights' spectra


def _input_work(case: Case) -> Work:
    return replace(_forward_work(case), once=2 * _products(case))


def _weight_work(case: Case) -> Work:
    products = _products(case)
    # products sum over the images alone, which is short, and the copy that turns dY has runs of one element
    return Work(products * 6 // 5, 14 * _circle(case).frequencies * case.channels, once=4 * products)


FORWARD = Kernel("dft", _supports, _forward_work, _forward_scratch, _prepare, _forward, _share)
INPUT = Kernel("dft", _supports, _input_work, _input_scratch, nothing_to_prepare, _input_gradient, _share)
WEIGHT = Kernel("dft", _supports, _weight_work, _weight_scratch, nothing_to_prepare, _weight_gradient, _share)
