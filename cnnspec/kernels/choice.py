"""Which kernel computes which direction of a convolution: a table, and prices to choose by.

A new kernel is a file and its lines in the table. All shards of a batch must choose alike, as they share what a kernel
prepares; they differ in size by one image at most, and only a single shard has fewer than 16 (`lower.shards_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

from cnnspec.kernels import depthwise, dft, direct, patches, strided, winograd
from cnnspec.kernels.cases import Case, Kernel

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

# nanoseconds, one thread of a server with AVX-512, float32
PER_MAC = 0.021
PER_MOVED = 0.2
PER_CALL = 2000.0
FEW, MANY = 16, 32  # images: from so many on, any shard counts as so many


def nanoseconds(kernel: Kernel, case: Case, n: int) -> float:
    """The estimated time of one image among n."""
    work, images = kernel.work(case), n if n < FEW else MANY
    return work.macs * PER_MAC + work.moved * PER_MOVED + (work.once * PER_MOVED + work.calls * PER_CALL) / images


def candidates(direction: Direction, case: Case, n: int) -> list[Kernel]:
    """All kernels that support the case, the cheapest first."""
    kernels = [*KERNELS[direction], *(joint[direction] for joint in JOINT)]
    return sorted((kernel for kernel in kernels if kernel.supports(case)), key=lambda k: nanoseconds(k, case, n))


@lru_cache(maxsize=4096)
def cheapest(direction: Direction, case: Case, n: int, pinned: str | None = None) -> Kernel:
    """The cheapest kernel of those that stand alone; the pinned one where it can."""
    able = [kernel for kernel in KERNELS[direction] if kernel.supports(case)]
    named = [kernel for kernel in able if kernel.name == pinned]
    return min(named or able, key=lambda kernel: nanoseconds(kernel, case, n))


@lru_cache(maxsize=4096)
def choose(case: Case, n: int, mode: Literal["train", "infer"], pinned: str | None = None) -> Choice:
    """The cheapest kernels for the directions of a mode; the pinned ones where they can, for tests and measurements."""
    directions = DIRECTIONS if mode == "train" else DIRECTIONS[:1]
    found: list[Choice] = [{direction: cheapest(direction, case, n, pinned) for direction in directions}]
    for joint in JOINT:
        if all(kernel.supports(case) for kernel in joint.values()):
            found.append({direction: joint[direction] for direction in directions})
    named = [choice for choice in found if pinned in {kernel.name for kernel in choice.values()}]
    return min(named or found, key=lambda choice: sum(nanoseconds(k, case, n) for k in choice.values()))
