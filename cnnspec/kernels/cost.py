"""The cost of kernels, and the choice of a kernel for each direction of a convolution: the cheapest in a table.

A new kernel is a file and its lines in the table. All shards of a batch must choose alike, as they read the same
prepared weights; they differ in size by one image at most, and only a single shard has fewer than 16 of them.

A layer that computes some rows of a map pins the kernel that computes the whole map. That pin always holds: in the
forward pass, no kernel's `supports` depends on how many rows a map has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

from cnnspec.kernels import depthwise, dft, direct, patches, strided, winograd
from cnnspec.kernels.kernel import FULL, Kernel
from cnnspec.kernels.machine import MachineModel, current
from cnnspec.kernels.problem import Problem

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
# these compute all directions or none, as each reads arrays that another one transforms
JOINT: tuple[Choice, ...] = ({"forward": dft.FORWARD, "input": dft.INPUT, "weight": dft.WEIGHT},)

IMAGE = 4  # a map of at most so many channels counts as the network's input, which gets no gradient
SMALLEST_SHARD, SHARD = 16, 32  # images: from 16 on a shard is priced as one of 32, so that all of them choose alike


def nanoseconds(kernel: Kernel, problem: Problem, n: int) -> float:
    """The estimated nanoseconds of a kernel for one image of n, on one thread in float32."""
    return _nanoseconds(kernel, problem, n, current())


def candidates(direction: Direction, problem: Problem, n: int) -> list[Kernel]:
    """All kernels that support the problem, the cheapest first."""
    kernels = [*KERNELS[direction], *(joint[direction] for joint in JOINT)]
    able = [kernel for kernel in kernels if kernel.supports(problem)]
    return sorted(able, key=lambda kernel: nanoseconds(kernel, problem, n))


def cheapest(direction: Direction, problem: Problem, n: int, pinned: str | None = None) -> Kernel:
    """The cheapest kernel that computes this direction by itself; the pinned one if it supports the problem."""
    return _cheapest(direction, problem, n, pinned, current())


def choose(problem: Problem, n: int, mode: Literal["train", "infer"], pinned: str | None = None) -> Choice:
    """The cheapest kernel for each direction of a mode; the pinned one if it supports the problem."""
    return _choose(problem, n, mode, pinned, current())


def _nanoseconds(kernel: Kernel, problem: Problem, n: int, machine: MachineModel) -> float:
    images = n if n < SMALLEST_SHARD else SHARD
    work = kernel.work(problem)
    products = work.macs * machine.mac * _narrowness(work.columns * images, machine)
    products += work.small * machine.small + work.bands * machine.band + work.band_gradients * machine.band_gradient
    once = work.once * machine.moved + work.calls * machine.call
    return products + work.moved * machine.moved + work.transformed * machine.transformed + once / images


def _narrowness(columns: int, machine: MachineModel) -> float:
    """By what factor a product of few columns takes longer than as many multiply-accumulates in a wide product."""
    if columns >= FULL:
        return 1
    eights, rest = divmod(columns, 8)
    return (machine.begun + 8 * eights + machine.rest * rest) / columns / (machine.begun / FULL + 1)


@lru_cache(maxsize=4096)
def _cheapest(direction: Direction, problem: Problem, n: int, pinned: str | None, machine: MachineModel) -> Kernel:
    able = [kernel for kernel in KERNELS[direction] if kernel.supports(problem)]
    named = [kernel for kernel in able if kernel.name == pinned]
    return min(named or able, key=lambda kernel: _nanoseconds(kernel, problem, n, machine))


@lru_cache(maxsize=4096)
def _choose(
    problem: Problem, n: int, mode: Literal["train", "infer"], pinned: str | None, machine: MachineModel
) -> Choice:
    directions = DIRECTIONS if mode == "train" else DIRECTIONS[:1]
    choices: list[Choice] = [
        {direction: _cheapest(direction, problem, n, pinned, machine) for direction in directions},
        *({direction: joint[direction] for direction in directions} for joint in JOINT if _supported(joint, problem)),
    ]
    named = [choice for choice in choices if pinned in {kernel.name for kernel in choice.values()}]
    counted = [direction for direction in directions if direction != "input" or problem.channels > IMAGE]
    return min(
        named or choices,
        key=lambda choice: sum(_nanoseconds(choice[direction], problem, n, machine) for direction in counted),
    )


def _supported(choice: Choice, problem: Problem) -> bool:
    return all(kernel.supports(problem) for kernel in choice.values())
