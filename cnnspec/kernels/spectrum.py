"""The discrete Fourier transform of real maps over two axes, as two plain multiplications.

On a circle of lh x lw positions a map x has the spectrum

    X[u,v] = sum_{r,s} x[r,s] e^(-i (2 pi u r / lh + 2 pi v s / lw)).

Of each conjugate pair X[u,v], X[-u,-v] one is enough. Columns come first: cosines and sines for the v of one half
circle. Then rows: every u for a v with a conjugate partner, and the u of one half circle for v = 0 and v = lw / 2,
which are their own partners. The inverse is the transpose of this matrix, with all pairs counted twice, divided by
lh*lw. Arrays are (columns, rows, q) and (frequencies, 2, q): the axis of 2 holds real and imaginary parts, and q counts
the maps that are transformed side by side. A circle is short, so that matrices beat the fast algorithm with its many
passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from cnnspec.kernels.blocks import wide_product
from cnnspec.kernels.step import Array, Step


@dataclass(frozen=True)
class Circle:
    """The lengths of the two periods."""

    rows: int
    columns: int

    @property
    def frequencies(self) -> int:
        """The number of frequencies: one of each conjugate pair, and those that are their own conjugates."""
        return sum(count * frequencies for _, count, _, frequencies in self.parts())

    def parts(self) -> Iterator[tuple[slice, int, int, int]]:
        """Yield for each kind of v: its slice of the transformed columns, how many v there are, the components of each
        (1 where it is real, 2 where it is complex), and how many u belong to each.
        """
        half = self.rows // 2 + 1
        yield slice(0, 1), 1, 1, half
        pairs = (self.columns - 1) // 2
        if pairs:
            yield slice(1, 1 + 2 * pairs), pairs, 2, self.rows
        if self.columns % 2 == 0:
            yield slice(self.columns - 1, self.columns), 1, 1, half


@dataclass(frozen=True)
class Places:
    """The positions on the circle that hold an array's rows and columns."""

    rows: Sequence[int]
    columns: Sequence[int]


def analysis(circle: Circle, places: Places, source: Array, middle: Array, spectrum: Array) -> list[Step]:
    """Steps from source (columns, rows, q) to spectrum (frequencies, 2, q); middle is (circle.columns, rows, q)."""
    q = source.shape[-1]
    across, _ = _real_transform(circle.columns, places.columns)
    steps = [
        wide_product(across.astype(source.dtype), source.reshape(len(source), -1), middle.reshape(len(middle), -1))
    ]
    for part, target, (down, _) in _parts(circle, places, middle, spectrum):
        steps.append(wide_product(down.astype(source.dtype), part, target.reshape(len(part), -1, q)))
    return steps


def synthesis(circle: Circle, places: Places, spectrum: Array, middle: Array, target: Array) -> list[Step]:
    """Steps from spectrum (frequencies, 2, q) to target (columns, rows, q); middle is (circle.columns, rows, q)."""
    q = target.shape[-1]
    steps = []
    for part, source, (down, pairs) in _parts(circle, places, middle, spectrum):
        back = (down * pairs[:, None] / circle.rows).T.astype(target.dtype)
        steps.append(wide_product(back, source.reshape(len(part), -1, q), part))
    across, pairs = _real_transform(circle.columns, places.columns)
    back = (across * pairs[:, None] / circle.columns).T.astype(target.dtype)
    return [*steps, wide_product(back, middle.reshape(len(middle), -1), target.reshape(len(target), -1))]


def _parts(
    circle: Circle, places: Places, middle: Array, spectrum: Array
) -> Iterator[tuple[Array, Array, tuple[Array, Array]]]:
    """Yield for each kind of v its part of middle, (v, rows of it, q), of the spectrum, and the matrix between both."""
    rows, q, start = middle.shape[1], middle.shape[2], 0
    for part, count, components, each in circle.parts():
        stop = start + count * each
        matrix = (
            _complex_transform(circle.rows, places.rows)
            if components == 2
            else _real_transform(circle.rows, places.rows, with_sines=True)
        )
        yield middle[part].reshape(count, components * rows, q), spectrum[start:stop], matrix
        start = stop


def _real_transform(length: int, places: Sequence[int], *, with_sines: bool = False) -> tuple[Array, Array]:
    """The transform of a real signal: cos, -sin for each frequency of half a circle, but no sines of 0 and length / 2.

    `with_sines` keeps these sines too. The second array says how many frequencies of the circle each row stands for.
    """
    rows, pairs = [], []
    for frequency in range(length // 2 + 1):
        angles = 2 * pi * frequency * np.array(places) / length
        self_conjugate = 2 * frequency % length == 0  # its own conjugate
        bases = [np.cos(angles)] if self_conjugate and not with_sines else [np.cos(angles), -np.sin(angles)]
        rows += bases
        pairs += [1.0 if self_conjugate else 2.0] * len(bases)
    return np.array(rows), np.array(pairs)


def _complex_transform(length: int, places: Sequence[int]) -> tuple[Array, Array]:
    """The transform of a complex signal by e^-ia (p + iq) = (p cos a + q sin a) + i (q cos a - p sin a)."""
    angles = 2 * pi * np.outer(np.arange(length), places) / length
    cos, sin = np.cos(angles), np.sin(angles)
    matrix = np.stack([np.concatenate([cos, sin], 1), np.concatenate([-sin, cos], 1)], 1)
    return matrix.reshape(2 * length, -1), np.ones(2 * length)
