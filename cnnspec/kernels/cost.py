"""Which kernel computes which direction of a convolution: a table, and prices to choose by.

A new kernel is a file and its lines in the table. All shards of a batch must choose alike, as they share what a kernel
prepares; they differ in size by one image at most, and only a single shard has fewer than 16 (`lower.shards_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

from cnnspec.kernels import depthwise, dft, direct, patches, strided, winograd
from cnnspec.kernels.machine import AVX512
from cnnspec.kernels.problem import Kernel, Prices, Problem

Direction = Literal["forward", "input", "weight"]
Choice = Mapping[Direction, Kernel]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

KERNELS: dict[Direction, tuple[Kernel, ...]] = {
    "forward": (
        direct.FORWARD,
        winograd.FORWARD_2,
        winograd.FORWARD_4,
        winograd.FORWARD_4_5,
        depthwise.FORWARD,
        patches.FORWARD,
    ),
    "input": (
        direct.INPUT,
        strided.INPUT,
        winograd.INPUT_2,
        winograd.TRANSPOSED_2,
        winograd.INPUT_4,
        winograd.TRANSPOSED_4,
        winograd.INPUT_4_5,
        winograd.TRANSPOSED_4_5,
        depthwise.INPUT,
        patches.INPUT,
    ),
    "weight": (
        direct.WEIGHT,
        winograd.WEIGHT_2,
        winograd.WEIGHT_4,
        winograd.WEIGHT_4_5,
        depthwise.WEIGHT,
        patches.WEIGHT,
    ),
}
# these compute all directions or none, as they share what they transform
JOINT: tuple[Choice, ...] = ({"forward": dft.FORWARD, "input": dft.INPUT, "weight": dft.WEIGHT},)

# as measured on servers with AVX-512 and without
WIDE = Prices(mac=0.021, moved=0.2, call=2000, transformed=0.2, small=0.021, band=0.021, turned=0.021, begun=0, rest=1)
OTHER = Prices(
    mac=0.0255, moved=0.2, call=1300, transformed=0.3, small=0.034, band=0.09, turned=0.18, begun=4, rest=2.2
)
PRICES = WIDE if AVX512 else OTHER
IMAGE = 4  # channels up to which a map is taken for the network's input, whose gradient nobody wants
FEW, MANY = 16, 32  # images: from so many on, any shard counts as so many


def nanoseconds(kernel: Kernel, problem: Problem, n: int) -> float:
    """The estimated time of one image among n."""
    return PRICES.of_image(kernel.work(problem), n if n < FEW else MANY)


def candidates(direction: Direction, problem: Problem, n: int) -> list[Kernel]:
    """All kernels that support the problem, the cheapest first."""
    kernels = [*KERNELS[direction], *(joint[direction] for joint in JOINT)]
    return sorted((kernel for kernel in kernels if kernel.supports(problem)), key=lambda k: nanoseconds(k, problem, n))


@lru_cache(maxsize=4096)
def cheapest(direction: Direction, problem: Problem, n: int, pinned: str | None = None) -> Kernel:
    """The cheapest kernel of those that stand alone; the pinned one where it can."""
    able = [kernel for kernel in KERNELS[direction] if kernel.supports(problem)]
    named = [kernel for kernel in able if kernel.name == pinned]
    return min(named or able, key=lambda kernel: nanoseconds(kernel, problem, n))


@lru_cache(maxsize=4096)
def choose(problem: Problem, n: int, mode: Literal["train", "infer"], pinned: str | None = None) -> Choice:
    """The cheapest kernels for the directions of a mode; the pinned ones where they can, for tests and measurements."""
    directions = DIRECTIONS if mode == "train" else DIRECTIONS[:1]
    found: list[Choice] = [{direction: cheapest(direction, problem, n, pinned) for direction in directions}]
    for joint in JOINT:
        if all(kernel.supports(problem) for kernel in joint.values()):
            found.append({direction: joint[direction] for direction in directions})
    named = [choice for choice in found if pinned in {kernel.name for kernel in choice.values()}]
    counted = [direction for direction in directions if direction != "input" or problem.channels > IMAGE]
    return min(named or found, key=lambda choice: sum(nanoseconds(choice[d], problem, n) for d in counted))
