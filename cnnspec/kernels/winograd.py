"""Winograd's minimal filtering along the height: m rows of the result for m + r - 1 products instead of m r.

For filters of r rows g over input rows d, stride 1, F(m,r) is

    y = A^T [(G g) * (B^T d)],    dG = (A dy) * (B^T d) with dg = G^T dG,

with m rows in y, m + r - 1 in d. Here `*` is a matrix product over channels and column taps, for each of the points.
Rows are outermost in a map (h, c, w, n), so each transform is one plain multiplication of a small matrix with whole
rows. The columns are expanded after it, E (points, kw, c, ow*n), a tile of m rows at a time, which stays in the cache.
F(4,5) takes two fifths of the products of the definition, F(4,3) a half, F(2,3) two thirds; its error is the lowest.
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

from cnnspec.kernels.blocks import NARROW, block, column_blocks, gradient_product, product
from cnnspec.kernels.columns import padding_views
from cnnspec.kernels.direct import gradient_problem
from cnnspec.kernels.elementwise import accumulate, clear, copy, sum_over
from cnnspec.kernels.kernel import Kernel, Work, nothing_to_prepare
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.kernels.views import part

TOGETHER = 1 << 17  # elements of expanded columns of the tiles that are computed together, at most: half a MiB
SHALLOW = 10  # column taps times channels: a product of fewer takes as long
CALLS = 4  # calls of NumPy for tiles computed together: a transform, the columns, the product, the transform back


@dataclass(frozen=True)
class Tile:
    """Neighbouring tiles that are computed together: output rows, input rows in the map, place of these in a tile.

    Neighbouring tiles overlap in their input rows. If there are several, all their input rows lie in the map.
    """

    count: int
    rows: slice
    inputs: slice
    used: slice


@dataclass(frozen=True)
class Filtering:
    """F(m,r) at finite points and infinity, by Toom and Cook; points that are small fractions keep rounding small."""

    taps: int  # r, the rows of a filter
    points: tuple[float, ...]

    @property
    def positions(self) -> int:
        """m + r - 1: the number of products of one tile, and of the input rows that it reads."""
        return len(self.points) + 1

    @property
    def rows(self) -> int:
        """m: the number of output rows of a tile."""
        return self.positions - self.taps + 1

    def _evaluation(self, coefficients: int) -> Array:
        """The matrix that maps a polynomial's coefficients to its values at all points, infinity last."""
        finite = np.vander(self.points, coefficients, increasing=True)
        return np.vstack([finite, np.eye(1, coefficients, coefficients - 1)])

    @cached_property
    def of_filter(self) -> Array:
        """The matrix G (positions, taps) that transforms a filter along one axis."""
        return self._evaluation(self.taps)

    @cached_property
    def of_input(self) -> Array:
        """The matrix B^T (positions, positions) that transforms a piece of the input along one axis."""
        return np.linalg.inv(self._evaluation(self.positions)).T

    @cached_property
    def of_output(self) -> Array:
        """The matrix A (positions, rows) that brings products back to rows of the output along one axis."""
        return self._evaluation(self.rows)

    def count(self, problem: Problem) -> int:
        """The number of tiles of a map."""
        return -(-problem.windows.output[0] // self.rows)

    def tiles(self, problem: Problem, most_tiles: int = 1) -> Iterator[Tile]:
        """Yield all tiles from the top; up to `most` neighbours together if all of their rows lie in the map."""
        windows, first = problem.windows, 0
        height = windows.output[0]
        while first < height:
            start = first - windows.padding[0]
            complete = min((height - first) // self.rows, (windows.height - start - self.positions) // self.rows + 1)
            count = max(1, min(most_tiles, complete)) if start >= 0 else 1
            stop = start + (count - 1) * self.rows + self.positions
            inputs = slice(max(start, 0), min(stop, windows.height))
            used = slice(inputs.start - start, min(self.positions, windows.height - start))
            yield Tile(count, slice(first, min(first + count * self.rows, height)), inputs, used)
            first += count * self.rows

    # forward and the input's gradient

    def tiles_at_once(self, problem: Problem, n: int) -> int:
        """How many tiles are computed together: more than one if tiles are so small that calls would dominate."""
        columns = self.positions * problem.windows.kernel[1] * problem.channels * problem.windows.output[1] * n
        return max(1, min(problem.windows.output[0] // self.rows, TOGETHER // columns))

    def prepared(self, problem: Problem) -> dict[str, Buffer]:
        """The buffers that `prepare` writes."""
        filters, kw, channels = problem.filters, problem.windows.kernel[1], problem.channels
        return {
            "taps": Buffer((self.taps, filters, kw, channels), "prepare"),
            "transformed": Buffer((self.positions, filters, kw * channels), "prepare"),
        }

    def columns(self, problem: Problem, n: int, lifetime: Lifetime) -> dict[str, Buffer]:
        """The transformed rows of tiles, with room for the padding at both ends, and their expanded columns."""
        windows, p, most_tiles = problem.windows, self.positions, self.tiles_at_once(problem, n)
        length = (windows.padding[2] + problem.channels * windows.width + windows.padding[3]) * n
        return {
            "rows": Buffer((most_tiles, p, length), lifetime),
            "columns": Buffer((most_tiles, p, windows.kernel[1], problem.channels, windows.output[1], n), lifetime),
        }

    def scratch(self, problem: Problem, n: int, lifetime: Lifetime = "forward") -> dict[str, Buffer]:
        """The buffers of `forward`."""
        most_tiles = self.tiles_at_once(problem, n)
        return {
            **self.prepared(problem),
            **self.columns(problem, n, lifetime),
            "products": Buffer((most_tiles, self.positions, problem.filters, problem.windows.output[1] * n), lifetime),
        }

    def prepare(self, problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """Steps that transform filters g (filters, c, taps, kw) into G g, as (positions, filters, kw*c)."""
        taps, transformed = buffers["taps"], buffers["transformed"]
        matrix = self.of_filter.astype(weight.dtype)
        return [
            copy(weight.transpose(2, 0, 3, 1), taps),
            product(matrix, taps.reshape(self.taps, -1), transformed.reshape(self.positions, -1)),
        ]

    def expand(self, problem: Problem, x: Array, rows: Array, columns: Array, tile: Tile) -> list[Step]:
        """Steps that write B^T d of tiles, and expand their columns, (count, points, kw, c, ow, n), tap by tap.

        All taps are one copy: a tap reads the same rows from another column on. Where padding should be, it reads
        columns of the neighbouring channel, which are set to zero.
        """
        rows, windows, n, size = rows[: tile.count], problem.windows, x.shape[-1], x[0].size
        start, item = windows.padding[2] * n, rows.itemsize
        shifted = as_strided(
            rows,
            columns.shape,
            (*rows.strides[:2], windows.dilation[1] * n * item, windows.width * n * item, n * item, item),
            writeable=False,
        )
        matrix = self.of_input[:, tile.used].astype(x.dtype)
        return [
            product(matrix, self._stack(x[tile.inputs], tile.count), rows[..., start : start + size]),
            copy(shifted, columns),
            *clear(padding_views(windows, columns)),
        ]

    def _stack(self, rows: Array, count: int) -> Array:
        """A view of the rows of `count` tiles, which may overlap, as (count, rows of a tile, elements)."""
        height, (row, item) = len(rows) - (count - 1) * self.rows, (rows.strides[0], rows.itemsize)
        return as_strided(rows, (count, height, rows[0].size), (self.rows * row, row, item))

    def forward(self, problem: Problem, x: Array, weight: Array, y: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """Steps that compute y = A^T [U E], some tiles at a time."""
        transformed, products, columns = buffers["transformed"], buffers["products"], buffers["columns"]
        most_tiles, p, filters, length = products.shape
        depth = transformed.shape[-1]
        width = block(length, NARROW, filters * depth)
        right = column_blocks(columns.reshape(most_tiles, p, depth, length), width)
        out, back = column_blocks(products, width), self.of_output.T.astype(x.dtype)
        steps: list[Step] = []
        for tile in self.tiles(problem, most_tiles):
            rows = self._stack(y[tile.rows], tile.count)
            target = products[: tile.count].reshape(tile.count, p, -1)
            steps += [
                *self.expand(problem, x, buffers["rows"], columns[: tile.count], tile),
                product(transformed[:, None], right[: tile.count], out[: tile.count]),
                product(back[: rows.shape[1]], target, rows),
            ]
        return steps

    def scratch_of_input(self, problem: Problem, n: int) -> dict[str, Buffer]:
        """The buffers of `input_gradient`."""
        return self.scratch(gradient_problem(problem), n, "input")

    def prepare_turned(self, problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
        """The steps of `prepare` for filters turned by 180 degrees, channels and filters exchanged."""
        return self.prepare(gradient_problem(problem), weight[..., ::-1, ::-1].swapaxes(0, 1), buffers)

    def input_gradient(
        self, problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """Steps that compute dx, which is the same correlation, of dy with the turned filters."""
        return self.forward(gradient_problem(problem), dy, weight, dx, buffers)

    # the input's gradient where the map shrinks

    def scratch_of_transposed(self, problem: Problem, n: int) -> dict[str, Buffer]:
        """The buffers of `transposed`."""
        windows, p, ow = problem.windows, self.positions, problem.windows.output[1]
        padded = windows.padding[2] + windows.width + windows.padding[3]
        return {
            **self.prepared(problem),
            "gradients": Buffer((p, problem.filters, ow * n), "input"),
            "products": Buffer((p, windows.kernel[1], problem.channels, padded, n), "input"),
            "rows": Buffer((2, p, problem.channels, windows.width, n), "input"),
        }

    def transposed(
        self, problem: Problem, dy: Array, weight: Array, dx: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """Steps that compute dx = B R, with R the sum over column taps of U^T (A dy), each at its columns.

        Tile i reaches `positions` rows of dx, at most the height of two tiles. So dx is computed in blocks of a tile's
        height, each by one product with two parts of R: the first rows of tile i and the last rows of tile i - 1.

        A tap's products have zeros behind their columns, up to the width of the padded map. The rows of each tap are
        read from an earlier place on than those of the tap before it. So equal places belong to equal columns, with
        zeros for columns that a tap does not reach, and one reduction adds all taps.
        """
        gradients, products, rows = (buffers[name] for name in ("gradients", "products", "rows"))
        p, (oh, ow), m, windows = self.positions, problem.windows.output, self.rows, problem.windows
        turned, transform = buffers["transformed"].swapaxes(1, 2), self.of_output.astype(dy.dtype)
        back = np.zeros((2, m, 2, p), dx.dtype)  # for even and odd tiles: the factors of both halves of R in a block
        back[0, :, 0] = back[1, :, 1] = self.of_input.T[:m]
        back[0, : p - m, 1] = back[1, : p - m, 0] = self.of_input.T[m:]
        width = block(gradients.shape[-1], NARROW, prod(turned.shape[1:]))
        right = column_blocks(gradients, width)
        out = column_blocks(products.reshape(p, turned.shape[1], -1)[..., : gradients.shape[-1]], width)
        of_point, of_tap, *places, n = products.strides
        later = as_strided(products, strides=(of_point, of_tap - windows.dilation[1] * places[1], *places, n))
        parts = later[:, :, :, windows.padding[2] : windows.padding[2] + windows.width]
        steps, tiles = clear([rows[1]]), self.count(problem)  # no tile lies above the first one
        steps += clear([products[:, :, :, ow:]])
        for tile in range(-(-(oh + self.taps - 1) // m)):
            half = rows[tile % 2]
            if tile < tiles:
                source = dy[tile * m : (tile + 1) * m]
                steps.append(product(transform[:, : len(source)], _flat(source), gradients.reshape(p, -1)))
                steps.append(product(turned[:, None], right, out))
                steps.append(sum_over(1, parts, half))
            else:
                steps += clear([half])
            start = tile * m - windows.padding[0]
            low, high = max(start, 0), min(start + m, windows.height)
            if high > low:
                matrix = back[tile % 2, low - start : high - start].reshape(high - low, -1)
                steps.append(product(matrix, rows.reshape(2 * p, -1), _flat(dx[low:high])))
        return steps

    # the weights' gradient

    def scratch_of_weight(self, problem: Problem, n: int) -> dict[str, Buffer]:
        """The buffers of `weight_gradient`."""
        p, kw, most_tiles = self.positions, problem.windows.kernel[1], self.tiles_at_once(problem, n)
        length, matrix = most_tiles * problem.windows.output[1] * n, (kw * problem.channels, problem.filters)
        return {
            **self.columns(problem, n, "params"),
            **({"beside": Buffer((self.rows, problem.filters, length), "params")} if most_tiles > 1 else {}),
            "gradients": Buffer((p, problem.filters, length), "params"),
            "total": Buffer((p, *matrix), "params"),
            "partial": Buffer((p, *matrix), "params"),
            "taps": Buffer((self.taps, *matrix), "params"),
        }

    def _columns_beside(self, problem: Problem, tile: Tile, n: int, buffers: Mapping[str, Array]) -> Array:
        """A view of the expanded columns of tiles, side by side."""
        shape = (self.positions, problem.windows.kernel[1], problem.channels, tile.count, problem.windows.output[1], n)
        return part(buffers["columns"].reshape(-1), shape)

    def _expand_beside(self, problem: Problem, x: Array, tile: Tile, buffers: Mapping[str, Array]) -> list[Step]:
        columns = self._columns_beside(problem, tile, x.shape[-1], buffers)
        return self.expand(problem, x, buffers["rows"], columns.transpose(3, 0, 1, 2, 4, 5), tile)

    def weight_gradient(
        self, problem: Problem, x: Array, dy: Array, dweight: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """Steps that compute dg = G^T sum over tiles of E (A dy)^T; tiles that are computed together lie in one row."""
        total, partial, taps = (buffers[name] for name in ("total", "partial", "taps"))
        filters, channels, _, kw = dweight.shape
        p, depth, _ = total.shape
        ow, n = dy.shape[-2:]
        steps: list[Step] = []
        for tile in self.tiles(problem, self.tiles_at_once(problem, n)):
            columns = self._columns_beside(problem, tile, n, buffers)
            gradients = part(buffers["gradients"].reshape(-1), (p, filters, tile.count * ow * n))
            target = total if tile.rows.start == 0 else partial
            steps += [
                *self._expand_beside(problem, x, tile, buffers),
                *self._transform_gradient(dy[tile.rows], tile, gradients, buffers),
                gradient_product(columns.reshape(p, depth, -1), gradients, target),
            ]
            if target is partial:
                steps.append(accumulate(total, partial))
        back = self.of_filter.T.astype(dy.dtype)
        by_tap = taps.reshape(self.taps, kw, channels, filters).transpose(3, 2, 0, 1)
        return [*steps, product(back, total.reshape(p, -1), taps.reshape(self.taps, -1)), copy(by_tap, dweight)]

    def _transform_gradient(
        self, rows: Array, tile: Tile, gradients: Array, buffers: Mapping[str, Array]
    ) -> list[Step]:
        """Steps that write A dy of tiles, side by side."""
        transform, flat = self.of_output.astype(rows.dtype), gradients.reshape(self.positions, -1)
        if tile.count == 1:
            return [product(transform[:, : len(rows)], _flat(rows), flat)]
        _, filters, ow, n = rows.shape
        beside = part(buffers["beside"].reshape(-1), (self.rows, filters, tile.count, ow, n))
        apart = rows.reshape(tile.count, self.rows, filters, ow, n).transpose(1, 2, 0, 3, 4)
        return [copy(apart, beside), product(transform, beside.reshape(self.rows, -1), flat)]

    # supported problems

    def supports(self, problem: Problem) -> bool:
        """Whether filters have r rows, and the padding is small enough for every output row to reach the map."""
        windows = problem.windows
        plain = problem.groups == 1 and windows.stride == (1, 1) and windows.dilation[0] == 1
        return plain and windows.kernel[0] == self.taps and max(windows.padding[:2]) < self.taps

    def supports_input(self, problem: Problem) -> bool:
        """`supports`, if the map does not shrink: otherwise there were products for more rows and columns than dy has.

        Negative padding would crop dy.
        """
        windows = problem.windows
        shrinks = prod(windows.output) < windows.height * windows.width
        return self.supports(problem) and not shrinks and min(gradient_problem(problem).windows.padding) >= 0

    def supports_transposed(self, problem: Problem) -> bool:
        """`supports`, if `supports_input` is false."""
        return self.supports(problem) and not self.supports_input(problem)

    # prices

    def work(self, problem: Problem) -> Work:
        """The work of the products, the transforms of map and result, the expansion, and the weights' transform."""
        windows, p = problem.windows, self.positions
        tiles, ow = self.count(problem), windows.output[1]
        weights, depth = problem.filters * problem.channels * windows.kernel[1], problem.channels * windows.kernel[1]
        products = tiles * p * problem.filters * max(depth, SHALLOW) * ow
        moved = tiles * p * (problem.channels * windows.kernel[1] + problem.filters) * ow
        results = problem.filters * prod(windows.output)
        calls = CALLS * -(-tiles // self.tiles_at_once(problem, 1))
        return Work(products, transformed=moved + results, once=(p + self.taps) * weights, calls=calls, columns=ow)

    def work_of_weight(self, problem: Problem) -> Work:
        """The work of the weights' gradient: as many products, and one sum of weight gradients for every tile."""
        weights = problem.filters * problem.channels * problem.windows.kernel[1]
        return replace(self.work(problem), once=2 * self.count(problem) * self.positions * weights)

    def work_of_input(self, problem: Problem) -> Work:
        """The work of the input's gradient: that of a forward pass over dy."""
        return self.work(gradient_problem(problem))

    def work_of_transposed(self, problem: Problem) -> Work:
        """The work of `transposed`: that of `forward`, and the addition of the products at their columns."""
        tiles, windows = self.count(problem), problem.windows
        work, depth = self.work(problem), problem.channels * windows.kernel[1]
        added = tiles * self.positions * depth * windows.output[1]
        return replace(work, transformed=work.transformed + added, calls=(CALLS + 1) * tiles)


def _flat(rows: Array) -> Array:
    """A view of rows (k, ...) as (k, elements), whatever the distance between rows."""
    return as_strided(rows, (len(rows), rows[0].size), (rows.strides[0], rows.itemsize))


def kernels(name: str, f: Filtering) -> tuple[Kernel, Kernel, Kernel, Kernel]:
    """The kernels of a filtering: forward, the input's gradient in its two forms, the weights' gradient."""
    return (
        Kernel(name, f.supports, f.work, f.scratch, f.prepare, f.forward),
        Kernel(name, f.supports_input, f.work_of_input, f.scratch_of_input, f.prepare_turned, f.input_gradient),
        Kernel(name, f.supports_transposed, f.work_of_transposed, f.scratch_of_transposed, f.prepare, f.transposed),
        Kernel(name, f.supports, f.work_of_weight, f.scratch_of_weight, nothing_to_prepare, f.weight_gradient),
    )


F_2_3 = Filtering(3, (0, 1, -1))
F_4_3 = Filtering(3, (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2))  # two thirds of the error of 0, +-1, +-2
F_4_5 = Filtering(5, (0, 1, -1, 2, -2, 1 / 2, -1 / 2))
FORWARD_2, INPUT_2, TRANSPOSED_2, WEIGHT_2 = kernels("winograd2", F_2_3)
FORWARD_4, INPUT_4, TRANSPOSED_4, WEIGHT_4 = kernels("winograd4", F_4_3)
FORWARD_4_5, INPUT_4_5, TRANSPOSED_4_5, WEIGHT_4_5 = kernels("winograd4", F_4_5)
