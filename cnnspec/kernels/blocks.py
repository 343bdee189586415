"""Cutting products into blocks that OpenBLAS multiplies without packing: up to twice as fast for a short side."""

from __future__ import annotations

SMALL = 1_000_000  # m*n*k of the largest such product
SMALL_OUTPUT = 1200  # elements of a @ b.T up to which it is as fast as a @ b there
DEEP = 128  # the sum's length that it needs for that


def block(length: int, fewest: int, most: int) -> int:
    """The largest divisor of one side between two bounds; the whole side where there is none."""
    return max((part for part in range(fewest, min(length, most) + 1) if length % part == 0), default=length)
