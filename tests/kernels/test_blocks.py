"""Blocks divide a side evenly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cnnspec.kernels.blocks import block


@given(st.integers(1, 2000), st.integers(1, 200), st.integers(0, 2000))
def test_a_block_divides_and_keeps_the_bounds_or_is_whole(length: int, fewest: int, most: int) -> None:
    part = block(length, fewest, most)
    assert length % part == 0
    assert part == length or fewest <= part <= most


def test_the_largest_divisor_is_taken() -> None:
    assert block(500, 16, 250) == 250
    assert block(500, 16, 39) == 25
    assert block(500, 16, 19) == 500
    assert block(10, 16, 62) == 10
