"""Blocks divide a side evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspec.kernels.blocks import block, gradient_block, gradient_product


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


@pytest.mark.parametrize(
    ("m", "n", "k"), [(32, 48, 128), (27, 50, 640), (144, 16, 1024), (5, 3, 200), (61, 37, 256), (9, 8, 7)]
)
def test_products_of_gradients_in_blocks(m: int, n: int, k: int) -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((3, m, k)), random.standard_normal((3, n, k))
    out = np.full((3, m, n), np.nan)
    gradient_product(left, right, out)()
    np.testing.assert_allclose(out, left @ right.swapaxes(1, 2), atol=1e-11)


def test_both_sides_of_a_gradient_are_cut() -> None:
    assert gradient_block(256, 256, 256) == (32, 32)
    assert gradient_block(32, 64, 1024) == (16, 32)
    assert gradient_block(144, 16, 1024) == (48, 16)
    assert gradient_block(256, 256, 32) == (256, 256)  # too short a sum to gain
    assert gradient_block(256, 3, 512) == (256, 3)
