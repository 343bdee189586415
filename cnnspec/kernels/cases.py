"""What a convolution kernel is told, what it says of itself, and views that all kernels share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from cnnspec.kernels.step import Array, Buffer, Step, in_turn
from cnnspec.shapes import Shape, Windows

FEWEST_ROWS, OF_ONE_ROW = 6, 2
COLUMNS = 32  # of a product, from which on it costs what its multiplications do


@dataclass(frozen=True)
class Case:
    """One convolution: how its windows lie, and how channels and filters are split into groups."""

    windows: Windows
    channels: int
    filters: int
    groups: int

    @property
    def channels_of_group(self) -> int:
        """Input channels that one filter sees."""
        return self.channels // self.groups

    @property
    def filters_of_group(self) -> int:
        """Filters that see the same channels."""
        return self.filters // self.groups

    @property
    def depth(self) -> int:
        """Products that make one output: channels of a group times kh*kw."""
        return self.channels_of_group * prod(self.windows.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image by the definition.

        Products of fewer rows take as long as of six; of a single row, which read the other matrix once, as of two.
        """
        rows = max(self.filters_of_group, FEWEST_ROWS) if self.filters_of_group > 1 else OF_ONE_ROW
        return self.groups * rows * self.depth * prod(self.windows.output)


@dataclass(frozen=True)
class Work:
    """What a kernel does for one image: multiply-accumulates in matrix products, and elements copied or added.

    `once` are elements copied or added once for all images, such as those of transformed weights; `calls` are calls of
    NumPy, also for all images. What machines differ in has a price of its own: elements `transformed` to other
    coordinates and back, and multiply-accumulates in products with matrices as `small` as a map's rows, or of `bands`
    as narrow as a filter, or of bands `turned`. `columns` are those that one image has in a product of `macs`.
    """

    macs: int = 0
    moved: int = 0
    once: int = 0
    calls: int = 4
    transformed: int = 0
    small: int = 0
    bands: int = 0
    turned: int = 0
    columns: int = COLUMNS


@dataclass(frozen=True)
class Prices:
    """Nanoseconds on one thread in float32, by what `Work` counts."""

    mac: float
    moved: float
    call: float
    transformed: float
    small: float
    band: float
    turned: float
    begun: float  # columns that a product could have had in the time that it takes to begin
    rest: float  # the same for every column that is left over when they are taken by eights

    def of_image(self, work: Work, n: int) -> float:
        """The time of one image among n."""
        products = work.macs * self.mac * self._of_columns(work.columns * n)
        products += work.small * self.small + work.bands * self.band + work.turned * self.turned
        once = work.once * self.moved + work.calls * self.call
        return products + work.moved * self.moved + work.transformed * self.transformed + once / n

    def _of_columns(self, columns: int) -> float:
        """How much longer products of few columns take than those that the price is for, of as many multiplications."""
        if columns >= COLUMNS:
            return 1
        eights, rest = divmod(columns, 8)
        return (self.begun + 8 * eights + self.rest * rest) / columns / (self.begun / COLUMNS + 1)


def nothing_to_share(case: Case, dy: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """For kernels that read dy as it is."""
    return []


@dataclass(frozen=True)
class Kernel:
    """One way to compute one direction of a convolution.

    `prepare(case, weight, buffers)` binds what depends on the weights alone; where the input's gradient has the same
    one as the forward pass, it is done once for both. `bind(case, a, b, out, buffers)` binds the work: (x, weight, y)
    forward, (dy, weight, dx) for the input's gradient, (x, dy, dweight) for the weights'.
    `share(case, dy, buffers)` binds what both gradients read. A kernel that shares is one of three, with one name and
    one set of buffers, that compute all directions of a convolution or none.
    """

    name: str
    supports: Callable[[Case], bool]
    work: Callable[[Case], Work]
    scratch: Callable[[Case, int], Mapping[str, Buffer]]
    prepare: Callable[[Case, Array, Mapping[str, Array]], list[Step]]
    bind: Callable[[Case, Array, Array, Array, Mapping[str, Array]], list[Step]]
    share: Callable[[Case, Array, Mapping[str, Array]], list[Step]] = nothing_to_share

    @property
    def joint(self) -> bool:
        """Whether its buffers are those of all directions."""
        return self.share is not nothing_to_share


def nothing_to_prepare(case: Case, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """For kernels that read the weights as they are."""
    return []


def copy(source: Array, target: Array) -> Step:
    """target = source. What is contiguous in both goes as one element: for short runs up to six times as fast.

    An assignment begins 0.2 us earlier than `copyto`.
    """
    read, written = runs(source, target)
    return partial(written.__setitem__, ..., read)


def runs(source: Array, target: Array) -> tuple[Array, Array]:
    """Views of two arrays that can be copied as they are, whose elements are what is contiguous in both."""
    axes = min(_contiguous_axes(source), _contiguous_axes(target))
    length = prod(source.shape[source.ndim - axes :])
    if source.dtype != target.dtype or length < 2:
        return source, target
    outer, run = source.shape[: source.ndim - axes], np.dtype((np.void, length * source.itemsize))
    read, written = (array.reshape(*outer, length).view(run)[..., 0] for array in (source, target))
    return read, written


def _contiguous_axes(array: Array) -> int:
    """How many of the last axes lie in memory as one run."""
    length = array.itemsize
    for count, (size, stride) in enumerate(zip(reversed(array.shape), reversed(array.strides), strict=True)):
        if size != 1 and stride != length:
            return count
        length *= size
    return array.ndim


def part(array: Array, shape: Shape) -> Array:
    """The beginning of a flat array, in a shape."""
    return array[: prod(shape)].reshape(shape)


def clear(arrays: Iterable[Array]) -> list[Step]:
    """All become zero, in one step where there are any."""
    filled = [array for array in arrays if array.size]

    def step() -> None:
        for array in filled:
            array.fill(0)

    return [step] if filled else []


def accumulate(total: Array, term: Array) -> Step:
    """total += term."""
    return partial(np.add, total, term, total)


def larger(a: Array, b: Array, out: Array) -> Step:
    """out = max(a, b). It takes its output by name alone, which costs a `partial` 0.1 us more than a function."""
    maximum, place = np.maximum, (out,)

    def step() -> None:
        maximum(a, b, out=place)

    return step


def sum_over(axis: int, array: Array, out: Array) -> Step:
    """out = the sum over an axis."""
    return partial(np.add.reduce, array, axis, None, out)


def add_rows(products: Array, total: Array, spare: Array, *, first: bool) -> Step:
    """total = sum of products (groups, rows, K, filters) over the rows, or total += it with the help of `spare`."""
    if first:
        return sum_over(1, products, total)
    return in_turn([sum_over(1, products, spare), accumulate(total, spare)])


def grouped_rows(array: Array, groups: int) -> Array:
    """A map (h, c, w, n) as (groups, h, c, w*n), a view."""
    h, c, w, n = array.shape
    return array.reshape(h, groups, c // groups, w * n).transpose(1, 0, 2, 3)


def grouped_map(array: Array, groups: int) -> Array:
    """A map (h, c, w, n) as (groups, h, c, w, n), a view."""
    h, c, w, n = array.shape
    return array.reshape(h, groups, c // groups, w, n).transpose(1, 0, 2, 3, 4)


def inside(windows: Windows, axis: int, tap: int) -> tuple[int, int]:
    """The output positions [first, last) along an axis for which a tap lies in the map and not in its padding."""
    length = (windows.height, windows.width)[axis]
    before, stride = windows.padding[2 * axis], windows.stride[axis]
    shift = before - tap * windows.dilation[axis]
    first = max(0, -(-shift // stride))
    last = min(windows.output[axis], (length - 1 + shift) // stride + 1)
    return first, max(last, first)


def outside(array: Array, reached: slice) -> list[Array]:
    """The columns (..., w, n) that a tap does not reach, views."""
    return [array[..., : reached.start, :], array[..., reached.stop :, :]]


def read_by(windows: Windows, axis: int, tap: int, first: int, last: int) -> slice:
    """The input positions that a tap reads for output positions [first, last)."""
    stride = windows.stride[axis]
    start = first * stride + tap * windows.dilation[axis] - windows.padding[2 * axis]
    return slice(start, start + (last - first - 1) * stride + 1, stride)
