"""Which kernel computes which direction of a convolution: a table, and prices to choose by.

A new kernel is a file and its lines in the table. Prices are per image, so that all shards of a batch choose alike:
they share what a kernel prepares.
"""

from __future__ import annotations

from typing import Literal

from cnnspec.kernels import depthwise, direct, patches
from cnnspec.kernels.case import Case, Kernel

Direction = Literal["forward", "input", "weight"]

KERNELS: dict[Direction, tuple[Kernel, ...]] = {
    "forward": (direct.FORWARD, patches.FORWARD),
    "input": (direct.INPUT, depthwise.INPUT, patches.INPUT),
    "weight": (direct.WEIGHT, patches.WEIGHT),
}

# nanoseconds, one thread of a server with AVX-512, float32
PER_MAC = 0.023
PER_MOVED = 0.2


def nanoseconds(kernel: Kernel, case: Case) -> float:
    """The estimated time of one image."""
    work = kernel.work(case)
    return work.macs * PER_MAC + work.moved * PER_MOVED


def choose(direction: Direction, case: Case, pinned: str | None = None) -> Kernel:
    """The cheapest kernel that supports the case; the pinned one where it does, for tests and measurements."""
    able = [kernel for kernel in KERNELS[direction] if kernel.supports(case)]
    named = [kernel for kernel in able if kernel.name == pinned]
    return min(named or able, key=lambda kernel: nanoseconds(kernel, case))
