"""Winograd's minimal filtering along the height: m rows of the result for m + 2 products instead of 3m.

For filters of three rows g over input rows d, stride 1, F(m,3) is

    y = A^T [(G g) * (B^T d)],    dG = (A dy) * (B^T d) with dg = G^T dG,

with m rows in y, m + 2 in d. Here `*` is a matrix product over channels and column taps, for each of the m + 2 points.
Rows are outermost in a map (h, c, w, n), so each transform is one plain multiplication of a small matrix with whole
rows. The columns are expanded after it, E (points, kw, c, ow*n), a tile of m rows at a time, which stays in the cache.
F(4,3) takes half of the products of the definition and F(2,3) two thirds; its error is lower.
Two dimensions would save more, but runs along the width are as short as the batch. Sources: Winograd, "Arithmetic
Complexity of Computations" (1980); Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks" (2016); for the
points Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution" (2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnspec.kernels.blocks import NARROW, SMALL, block, column_blocks, gradient_product
from cnnspec.kernels.cases import Case, Kernel, Work, accumulate, clear, copy, nothing_to_prepare, product
from cnnspec.kernels.columns import edges
from cnnspec.kernels.direct import gradient_case
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step

TAPS = 3  # rows of a filter
CALLS = 6  # of NumPy for a tile


@dataclass(frozen=True)
class Filtering:
    """F(m,3) at finite points and infinity, by Toom and Cook; few and small fractions keep rounding small."""

    points: tuple[float, ...]

    @property
    def positions(self) -> int:
        """m + 2: products that one tile takes, and the input rows that it reads."""
        return len(self.points) + 1

    @property
    def rows(self) -> int:
        """m: output rows of a tile."""
        return self.positions - TAPS + 1

    def _evaluation(self, coefficients: int) -> Array:
        """Polynomials of so many coefficients to their values at all points, infinity last."""
        finite = np.vander(self.points, coefficients, increasing=True)
        return np.vstack([finite, np.eye(1, coefficients, coefficients - 1)])

    @cached_property
    def of_filter(self) -> Array:
        """G (positions, 3)."""
        return self._evaluation(TAPS)

    @cached_property
    def of_input(self) -> Array:
        """B^T (positions, positions)."""
        return np.linalg.inv(self._evaluation(self.positions)).T

    @cached_property
    def of_output(self) -> Array:
        """A (positions, rows)."""
        return self._evaluation(self.rows)

    def tiles(self, case: Case) -> Iterator[tuple[slice, slice, slice]]:
        """For every tile its output rows, the input rows that lie in the map, and which of the tile's those are."""
        windows = case.windows
        for first in range(0, windows.output[0], self.rows):
            start = first - windows.padding[0]
            stop = start + self.positions
            inputs = slice(max(start, 0), min(stop, windows.height))
            yield (
                slice(first, min(first + self.rows, windows.output[0])),
                inputs,
                slice(inputs.start - start, inputs.stop - start),
            )

    # forward and the input's gradient

    def columns(self, case: Case, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
        """The transformed rows of a tile, with room for the padding at both ends, and their expanded columns."""
        windows, p = case.windows, self.positions
        length = (windows.padding[2] + case.channels * windows.width + windows.padding[3]) * n
        return {
            "rows": Buffer((p, length), lifetime),
            "columns": Buffer((p, windows.kernel[1], case.channels, windows.output[1], n), lifetime),
        }

    def scratch(self, case: Case, n: int, lifetime: Lifetime = "forward") -> dict[str, Buffer]:
        """What `forward` works with."""
        p, kw, ow = self.positions, case.windows.kernel[1], case.windows.output[1]
        return {
            "taps": Buffer((TAPS, case.filters, kw, case.channels), "prepare"),
            "transformed": Buffer((p, case.filters, kw * case.channels), "prepare"),
            **self.columns(case, n, lifetime),
            "products": Buffer((p, case.filters, ow * n), lifetime),
        }

    def prepare(self, case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """G g of (filters, c, 3, kw), as (positions, filters, kw*c)."""
        taps, transformed = buffers["taps"], buffers["transformed"]
        matrix = self.of_filter.astype(weight.dtype)
        return [
            copy(weight.transpose(2, 0, 3, 1), taps),
            product(matrix, taps.reshape(TAPS, -1), transformed.reshape(self.positions, -1)),
        ]

    def expand(
        self, case: Case, x: Array, buffers: Mapping[str, Array], tile: tuple[slice, slice, slice]
    ) -> list[Step]:
        """B^T d of a tile, and its columns, one tap beside the other.

        All taps are one copy: a tap is the same rows from another column on. It reads its neighbour channel's columns
        where the padding should be, which become zero.
        """
        rows, columns, (_, inputs, used) = buffers["rows"], buffers["columns"], tile
        windows, n, size = case.windows, x.shape[-1], x[0].size
        start, item = windows.padding[2] * n, rows.itemsize
        shifted = as_strided(
            rows,
            columns.shape,
            (rows.strides[0], windows.dilation[1] * n * item, windows.width * n * item, n * item, item),
            writeable=False,
        )
        matrix = self.of_input[:, used].astype(x.dtype)
        return [
            product(matrix, _flat(x[inputs]), rows[:, start : start + size]),
            copy(shifted, columns),
            clear(edges(windows, columns[None])),
        ]

    def forward(self, case: Case, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """y = A^T [U E], a tile at a time."""
        transformed, products = buffers["transformed"], buffers["products"]
        p, filters, depth = transformed.shape
        width = block(products.shape[-1], NARROW, SMALL // (filters * depth))
        right = column_blocks(buffers["columns"].reshape(p, depth, -1), width)
        out, back = column_blocks(products, width), self.of_output.T.astype(x.dtype)
        steps: list[Step] = []
        for tile in self.tiles(case):
            rows = y[tile[0]]
            steps += [
                *self.expand(case, x, buffers, tile),
                product(transformed[:, None], right, out),
                product(back[: len(rows)], products.reshape(p, -1), _flat(rows)),
            ]
        return steps

    def scratch_of_input(self, case: Case, n: int) -> dict[str, Buffer]:
        """What `input_gradient` works with."""
        return self.scratch(gradient_case(case), n, "backward")

    def prepare_turned(self, case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """The same of the filters turned by 180 degrees, channels and filters exchanged."""
        return self.prepare(gradient_case(case), weight[..., ::-1, ::-1].swapaxes(0, 1), buffers)

    def input_gradient(
        self, case: Case, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """dx is the same correlation of dy with the turned filters."""
        return self.forward(gradient_case(case), dy, weight, dx, buffers)

    # the weights' gradient

    def scratch_of_weight(self, case: Case, n: int) -> dict[str, Buffer]:
        """What `weight_gradient` works with."""
        p, kw, ow = self.positions, case.windows.kernel[1], case.windows.output[1]
        matrix = (kw * case.channels, case.filters)
        return {
            **self.columns(case, n, "backward"),
            "gradients": Buffer((p, case.filters, ow * n), "backward"),
            "total": Buffer((p, *matrix), "backward"),
            "partial": Buffer((p, *matrix), "backward"),
            "taps": Buffer((TAPS, *matrix), "backward"),
        }

    def weight_gradient(
        self, case: Case, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """dg = G^T sum over tiles of E (A dy)^T."""
        gradients, total, partial, taps = (buffers[name] for name in ("gradients", "total", "partial", "taps"))
        filters, channels, _, kw = dweight.shape
        p, depth, _ = total.shape
        columns, there = buffers["columns"].reshape(p, depth, -1), self.of_output.astype(dy.dtype)
        steps: list[Step] = []
        for tile in self.tiles(case):
            rows, target = dy[tile[0]], total if tile[0].start == 0 else partial
            steps += [
                *self.expand(case, x, buffers, tile),
                product(there[:, : len(rows)], _flat(rows), gradients.reshape(p, -1)),
                gradient_product(columns, gradients, target),
            ]
            if target is partial:
                steps.append(accumulate(total, partial))
        back = self.of_filter.T.astype(dy.dtype)
        by_tap = taps.reshape(TAPS, kw, channels, filters).transpose(3, 2, 0, 1)
        return [*steps, product(back, total.reshape(p, -1), taps.reshape(TAPS, -1)), copy(by_tap, dweight)]

    # prices

    def work(self, case: Case) -> Work:
        """Products, what is transformed, expanded and transformed back, and the weights' transform."""
        windows, p = case.windows, self.positions
        tiles, ow = -(-windows.output[0] // self.rows), windows.output[1]
        weights = case.filters * case.channels * windows.kernel[1]
        moved = tiles * p * (case.channels * windows.kernel[1] + case.filters) * ow
        results = case.filters * prod(windows.output)
        return Work(tiles * p * weights * ow, moved + results, (p + TAPS) * weights, calls=CALLS * tiles)

    def work_of_weight(self, case: Case) -> Work:
        """The same products, and one sum of weights for every tile."""
        work = self.work(case)
        tiles = work.calls // CALLS
        return replace(work, once=2 * tiles * self.positions * case.filters * case.channels * case.windows.kernel[1])

    def work_of_input(self, case: Case) -> Work:
        """The same as forward, of dy."""
        return self.work(gradient_case(case))


def _flat(rows: Array) -> Array:
    """Rows (k, ...) as (k, elements), a view, however far apart they are."""
    return as_strided(rows, (len(rows), rows[0].size), (rows.strides[0], rows.itemsize))


def _supports(case: Case) -> bool:
    windows = case.windows
    plain = case.groups == 1 and windows.stride == (1, 1) and windows.dilation[0] == 1
    # more padding would make rows of outputs that no row of the map reaches
    return plain and windows.kernel[0] == TAPS and max(windows.padding[:2]) < TAPS


def _supports_input(case: Case) -> bool:
    return _supports(case) and min(gradient_case(case).windows.padding) >= 0  # negative padding would crop dy


def _kernels(name: str, points: tuple[float, ...]) -> tuple[Kernel, Kernel, Kernel]:
    f = Filtering(points)
    return (
        Kernel(name, _supports, f.work, f.scratch, f.prepare, f.forward),
        Kernel(name, _supports_input, f.work_of_input, f.scratch_of_input, f.prepare_turned, f.input_gradient),
        Kernel(name, _supports, f.work_of_weight, f.scratch_of_weight, nothing_to_prepare, f.weight_gradient),
    )


FORWARD_2, INPUT_2, WEIGHT_2 = _kernels("winograd2", (0, 1, -1))
FORWARD_4, INPUT_4, WEIGHT_4 = _kernels("winograd4", (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2))
