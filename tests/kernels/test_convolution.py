"""Every convolution kernel against the others, and the choice among them."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cnnspec.fields import options
from cnnspec.kernels import columns, depthwise, direct, patches, strided, winograd
from cnnspec.kernels.cost import DIRECTIONS, JOINT, KERNELS, Direction, candidates, choose
from cnnspec.kernels.kernel import Kernel
from cnnspec.kernels.machine import AVX512, MachineModel
from cnnspec.kernels.problem import Problem
from cnnspec.kernels.step import Array
from cnnspec.layers.conv import Conv2d
from cnnspec.shapes import ShapeError, windows
from tests.samples import sampled


def problem_of(shape: tuple[int, int, int], filters: int, groups: int, **laid: Any) -> Problem:
    return Problem(windows(shape, "conv2d", **laid), shape[0], filters, groups)


def operands(problem: Problem, dtype: Any, n: int) -> dict[str, Array]:
    """Random x, y (which is dy for the gradients) and weight."""
    random, laid = np.random.default_rng(0), problem.windows
    shapes = {
        "x": (laid.height, problem.channels, laid.width, n),
        "y": (laid.output[0], problem.filters, laid.output[1], n),
        "weight": (problem.filters, problem.channels_of_group, *laid.kernel),
    }
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def computed(kernel: Kernel, problem: Problem, direction: Direction, given: dict[str, Array]) -> Array:
    """What one kernel makes of the operands, with all that it writes full of NaN before."""
    x, y, weight = given["x"], given["y"], given["weight"]
    n, dtype = x.shape[-1], x.dtype
    a, b, out = {"forward": (x, weight, y), "input": (y, weight, x), "weight": (x, y, weight)}[direction]
    result = np.full_like(out, np.nan)
    others = next((list(joint.values()) for joint in JOINT if kernel in joint.values()), [kernel])
    wanted = {name: b.shape for other in others for name, b in other.scratch(problem, n).items()}
    buffers = {name: np.full(shape, np.nan, dtype) for name, shape in wanted.items()}
    steps = [step for other in others for step in other.prepare(problem, weight, buffers)]
    if kernel.joint and direction != "forward":
        steps += others[0].bind(problem, x, weight, np.empty_like(y), buffers)
    steps += kernel.prepare_gradient(problem, y, buffers)
    for step in [*steps, *kernel.bind(problem, a, b, result, buffers)]:
        step()
    return result


def results(problem: Problem, direction: Direction, n: int, dtype: Any) -> dict[str, Array]:
    """The result of every kernel that supports the problem, by name."""
    given = operands(problem, dtype, n)
    return {kernel.name: computed(kernel, problem, direction, given) for kernel in candidates(direction, problem, n)}


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from(DIRECTIONS),
    st.sampled_from([1, 3, 17]),
)
def test_kernels_agree(
    shape: tuple[int, int, int],
    groups: int,
    filters: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    direction: Direction,
    n: int,
) -> None:
    whole = (shape[0] * groups, *shape[1:])
    try:
        laid = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
        problem = problem_of(whole, filters * groups, groups, **laid)
    except ShapeError:
        assume(False)
    found = results(problem, direction, n, np.float64)
    for result in found.values():
        np.testing.assert_allclose(result, found["patches"], atol=1e-11)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("n", [5, 32, 33])
def test_kernels_agree_where_products_are_cut_into_blocks_and_tiles(direction: Direction, n: int) -> None:
    problem = problem_of((20, 12, 12), 50, 1, kernel=(5, 5), stride=(1, 1), padding="valid")
    found = results(problem, direction, n, np.float32)
    assert set(found) == {"direct", "dft", "patches", "winograd4"}
    scale = np.abs(found["patches"]).max()
    for name in ("direct", "dft", "winograd4"):
        np.testing.assert_allclose(found[name], found["patches"], atol=3e-6 * scale)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("laid", [{"stride": (1, 1)}, {"stride": (2, 2)}, {"stride": (3, 1), "dilation": (2, 2)}])
def test_kernels_agree_where_channels_are_cut_into_tiles(direction: Direction, laid: dict[str, Any]) -> None:
    problem = problem_of((121, 10, 9), 242, 121, kernel=(3, 3), padding=(2, 1, 0, 2), **laid)
    buffers = depthwise.INPUT.scratch(problem, 33)
    assert buffers["held"].shape[2] < problem.channels
    assert 1 < columns.groups_of_tile(problem, 33) < problem.groups
    found = results(problem, direction, 33, np.float64)
    for result in found.values():
        np.testing.assert_allclose(result, found["patches"], atol=1e-10)


class Magnitudes(winograd.Filtering):
    """The same sums with every term positive: the size of what is rounded on the way to each result."""

    @cached_property
    def of_filter(self) -> Array:
        return np.abs(super().of_filter)

    @cached_property
    def of_input(self) -> Array:
        return np.abs(super().of_input)

    @cached_property
    def of_output(self) -> Array:
        return np.abs(super().of_output)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("height", [1, 2, 7, 16])
@pytest.mark.parametrize("padding", ["valid", "same", (2, 0, 0, 0), (0, 1, 2, 1)])
@pytest.mark.parametrize("kernel", sampled([(3, 3), (3, 1), (3, 5), (5, 5), (5, 1)], 3))
def test_winograd_at_the_edges_and_in_single_precision(
    direction: Direction, height: int, padding: Any, kernel: tuple[int, int]
) -> None:
    """Every result is within the bound for sums in any order: |error| <= K u / (1 - K u) times the sum of magnitudes.

    K counts the roundings of a term: of the operands, of the two transforms, of the sum of products and of the
    transform of the result, each as many as the sum has terms, and one for a coefficient. Source: Higham, "Accuracy
    and Stability of Numerical Algorithms" (2002), section 3.1.
    """
    try:
        problem = problem_of((16, height, 8), 24, 1, kernel=kernel, stride=(1, 1), padding=padding)
    except ShapeError:
        assert height < kernel[0]
        return
    n, width = 32, problem.windows.output[1]
    exact, found = results(problem, direction, n, np.float64)["patches"], results(problem, direction, n, np.float32)
    sizes = {name: np.abs(array) for name, array in operands(problem, np.float64, n).items()}
    for name, f in (("winograd2", winograd.F_2_3), ("winograd4", winograd.F_4_3), ("winograd4", winograd.F_4_5)):
        if f.taps == kernel[0]:
            forward, *inputs, weight = winograd.kernels(name, Magnitudes(f.taps, f.points))
            able = {"forward": [forward], "input": inputs, "weight": [weight]}[direction]
            magnitude = next(computed(k, problem, direction, sizes) for k in able if k.supports(problem))
            terms = {
                "forward": problem.channels * kernel[1],
                "input": problem.filters * kernel[1],
                "weight": f.count(problem) * width * n,
            }
            roundings = (2 + 4 * (f.positions + 1) + terms[direction]) * 2.0**-24
            assert (np.abs(found[name] - exact) <= roundings / (1 - roundings) * magnitude).all()


@pytest.mark.parametrize(
    ("taps", "points", "tile"),
    [(3, (0, 1, -1), 2), (3, (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2), 4), (5, (0, 1, -1, 2, -2, 1 / 2, -1 / 2), 4)],
)
def test_winograd_by_its_definition(taps: int, points: tuple[float, ...], tile: int) -> None:
    d, g = np.random.default_rng(0).standard_normal((2, tile + taps - 1))
    f, g = winograd.Filtering(taps, points), g[:taps]
    assert (f.rows, f.positions) == (tile, len(d))
    y = f.of_output.T @ ((f.of_filter @ g) * (f.of_input @ d))
    np.testing.assert_allclose(y, np.correlate(d, g), atol=1e-13)
    transposed = f.of_input.T @ ((f.of_filter @ g) * (f.of_output @ y))
    np.testing.assert_allclose(transposed, np.convolve(y, g), atol=1e-13)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 1)])
def test_kernels_agree_where_rows_are_cut_into_tiles(direction: Direction, stride: tuple[int, int]) -> None:
    problem = problem_of((24, 61, 19), 20, 2, kernel=(3, 4), stride=stride, padding=(1, 2, 0, 3))
    for kernel in (direct.FORWARD, strided.INPUT if stride != (1, 1) else direct.INPUT, direct.WEIGHT):
        assert prod(kernel.scratch(problem, 33)["columns"].shape) < 24 * 61 * 19 * 33
    found = results(problem, direction, 33, np.float64)
    np.testing.assert_allclose(found["direct"], found["patches"], atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2])
def test_rows_side_by_side_are_cut_into_tiles(groups: int) -> None:
    problem = problem_of((512, 14, 14), 4, groups, kernel=(3, 3), stride=(1, 1), padding="same")
    buffers = patches.FORWARD.scratch(problem, 1)
    assert "products" in buffers
    assert 1 < buffers["patches"].shape[1] < 14
    found = results(problem, "forward", 1, np.float64)
    np.testing.assert_allclose(found["patches"], found["direct"], atol=1e-10)


def names(problem: Problem, n: int, mode: Literal["train", "infer"] = "train", pinned: str | None = None) -> list[str]:
    return [kernel.name for kernel in choose(problem, n, mode, pinned).values()]


def test_the_cheapest_kernels_are_chosen(machine: MachineModel) -> None:
    same: dict[str, Any] = {"kernel": (3, 3), "stride": (1, 1), "padding": "same"}
    many = problem_of((16, 32, 32), 16, 1, **same)
    assert names(many, 32) == ["winograd4"] * 3
    assert names(many, 1, "infer") == ["winograd4"]
    first = problem_of((1, 28, 28), 20, 1, kernel=(5, 5), stride=(1, 1), padding="valid")
    assert names(first, 1, "infer") == ["direct"]  # products of one channel are too shallow
    low = problem_of((32, 2, 64), 32, 1, **same)
    assert names(low, 32) == ["winograd2"] * 3
    lenet = problem_of((20, 12, 12), 50, 1, kernel=(5, 5), stride=(1, 1), padding="valid")
    assert names(lenet, 32) == ["dft"] * 3
    assert names(lenet, 5) == ["winograd4"] * 3
    separable = problem_of((32, 16, 16), 32, 32, kernel=(3, 3), stride=(2, 2), padding="same")
    assert names(separable, 32) == (["depthwise"] * 3 if machine is AVX512 else ["direct", "depthwise", "direct"])
    small = problem_of((128, 7, 7), 128, 1, **same)  # of whose rows a product would be mostly its beginning
    assert names(small, 1, "infer") == (["direct"] if machine is AVX512 else ["patches"])
    colours = problem_of((3, 32, 32), 16, 1, **same)  # transforms take as long as the products that they save
    assert names(colours, 32, "infer") == (["winograd4"] if machine is AVX512 else ["direct"])


@pytest.mark.usefixtures("machine")
def test_shards_that_differ_by_an_image_choose_alike() -> None:
    random = np.random.default_rng(0)
    for c, size, filters in random.integers(1, 40, (50, 3)).tolist():
        problem = problem_of((c, size + 4, size + 4), filters, 1, kernel=(5, 5), stride=(1, 1), padding="valid")
        assert len({tuple(names(problem, n)) for n in (16, 31, 32, 33, 63)}) == 1


def test_a_pinned_kernel_gives_way_where_it_cannot() -> None:
    halving = problem_of((4, 8, 8), 8, 1, kernel=(3, 3), stride=(2, 2), padding="same")
    assert names(halving, 32, pinned="patches") == ["patches"] * 3
    assert names(halving, 32, pinned="depthwise") == ["direct"] * 3
    assert names(halving, 32, pinned="dft") == names(halving, 32)
    small = problem_of((4, 8, 8), 8, 1, kernel=(3, 3), stride=(1, 1), padding="same")
    assert names(small, 1, pinned="dft") == ["dft"] * 3


def test_every_kernel_can_be_pinned_in_a_spec() -> None:
    (annotation,) = (option.annotation for option in options(Conv2d) if option.name == "kernel")
    names = {name for part in get_args(get_args(annotation)[0]) for name in get_args(part)}
    tables = [*KERNELS.values(), *(joint.values() for joint in JOINT)]
    assert {kernel.name for kernels in tables for kernel in kernels} == names


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_kernels_agree_where_weights_are_large(direction: Direction) -> None:
    problem = problem_of((64, 9, 5), 512, 1, kernel=(3, 3), stride=(1, 1), padding="same")
    found = results(problem, direction, 4, np.float64)
    assert direct.WEIGHT.scratch(problem, 4)["products"].shape[1] == 3  # of 9 rows
    for result in found.values():
        np.testing.assert_allclose(result, found["patches"], atol=1e-10)


@pytest.mark.usefixtures("machine")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.tuples(st.sampled_from([1, 3, 4, 32]), st.integers(1, 12), st.integers(1, 9)),
    st.sampled_from([1, 4, 32]),
    st.booleans(),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from([1, 5, 31]),
    st.data(),
)
def test_some_rows_of_a_map_take_the_kernel_that_all_of_them_take(
    shape: tuple[int, int, int],
    filters: int,
    apart: bool,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    n: int,
    data: st.DataObject,
) -> None:
    groups, filters = (shape[0], shape[0] * filters) if apart else (1, filters)
    laid: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
    layer = Conv2d(filters=filters, kernel_size=kernel, **laid)
    try:
        whole = layer.convolution(shape)
    except ShapeError:
        assume(False)
    chosen = choose(whole, n, "train")["forward"]
    first = data.draw(st.integers(0, whole.windows.output[0] - 1))
    last = data.draw(st.integers(first + 1, whole.windows.output[0]))
    reads, some = whole.windows.part(slice(first, last))
    assume(some.height > 0 and not chosen.joint)
    rows = Problem(some, whole.channels, whole.filters, whole.groups)
    assert reads.stop - reads.start == some.height
    assert choose(rows, n, "train", chosen.name)["forward"] is chosen
    assert choose(rows, n, "infer", chosen.name)["forward"] is chosen
