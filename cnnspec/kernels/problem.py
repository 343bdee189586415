"""What a convolution kernel is told, what it says of itself, and views that all kernels share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.shapes import Windows

FEWEST_ROWS, OF_ONE_ROW = 6, 2
COLUMNS = 32  # of a product, from which on it costs what its multiplications do


@dataclass(frozen=True)
class Problem:
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


def no_gradient_form(problem: Problem, dy: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """For kernels that read dy as it is."""
    return []


@dataclass(frozen=True)
class Kernel:
    """One way to compute one direction of a convolution.

    `prepare(problem, weight, buffers)` returns the steps that bring the weights into the form which the kernel reads;
    where the input's gradient reads the same form as the forward pass, they run once for both.
    `bind(problem, a, b, out, buffers)` returns the steps of the work itself: (x, weight, y) forward, (dy, weight, dx)
    for the input's gradient, (x, dy, dweight) for the weights' gradient.
    `prepare_gradient(problem, dy, buffers)` returns the steps that bring dy into a form which both gradients read.
    Kernels that have one come in threes, with one name and one set of buffers: a convolution uses all three or none.
    """

    name: str
    supports: Callable[[Problem], bool]
    work: Callable[[Problem], Work]
    scratch: Callable[[Problem, int], Mapping[str, Buffer]]
    prepare: Callable[[Problem, Array, Mapping[str, Array]], list[Step]]
    bind: Callable[[Problem, Array, Array, Array, Mapping[str, Array]], list[Step]]
    prepare_gradient: Callable[[Problem, Array, Mapping[str, Array]], list[Step]] = no_gradient_form

    @property
    def joint(self) -> bool:
        """Whether its buffers are those of all directions."""
        return self.prepare_gradient is not no_gradient_form


def nothing_to_prepare(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """For kernels that read the weights as they are."""
    return []
