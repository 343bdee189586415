"""The type of a convolution kernel: functions that bind it to arrays, and the work that its price is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array, Buffer, Step

FULL = 32  # columns: a product of fewer takes longer than its multiply-accumulates, as packing counts
PRICED_ROWS = 6  # a product of fewer rows takes as long as one of six: the BLAS computes rows by sixes
ONE_ROW = 2  # rows that a product of one row is priced as: it reads the other matrix once and packs nothing


@dataclass(frozen=True)
class Work:
    """The work of a kernel for one image, in the units that a machine model has prices for.

    `macs` are multiply-accumulates in matrix products, in which one image has `columns` columns; `small` are those in
    products with a matrix as small as a map's rows, `bands` those with band matrices, `band_gradients` those of a band
    matrix's gradient. `moved` are elements copied or added, `transformed` those of Winograd's transforms. `once` are
    elements copied or added once for all images, such as those of transformed weights, and `calls` are NumPy calls for
    all images.
    """

    macs: int = 0
    moved: int = 0
    once: int = 0
    calls: int = 4
    transformed: int = 0
    small: int = 0
    bands: int = 0
    band_gradients: int = 0
    columns: int = FULL


def product_macs(problem: Problem) -> int:
    """The multiply-accumulates of one image by definition; a group of few filters counts as `PRICED_ROWS`."""
    rows = max(problem.filters_of_group, PRICED_ROWS) if problem.filters_of_group > 1 else ONE_ROW
    return problem.groups * rows * problem.depth * prod(problem.windows.output)


def no_gradient_form(problem: Problem, dy: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Return no steps: the `prepare_gradient` of kernels that read dy itself."""
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
        """Whether the kernel shares its buffers with all directions of the convolution."""
        return self.prepare_gradient is not no_gradient_form


def nothing_to_prepare(problem: Problem, weight: Array, buffers: Mapping[str, Array]) -> list[Step]:
    """Return no steps: the `prepare` of kernels that read the weights themselves."""
    return []
