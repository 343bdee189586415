"""Blocks divide a side evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspec.kernels.blocks import (
    block,
    gradient_block,
    gradient_product,
    narrow_product,
    transposed_product,
    transposed_scratch,
)
from cnnspec.kernels.machine import AVX2, AVX512, MachineModel, current
from cnnspec.kernels.step import join_steps


@pytest.mark.usefixtures("machine")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(1, 2000), st.integers(1, 200), st.integers(1, 2_000_000))
def test_a_block_divides_and_keeps_the_bounds_or_is_whole(length: int, fewest: int, each: int) -> None:
    part = block(length, fewest, each)
    assert length % part == 0
    assert part == length or (fewest <= part and part * each <= current().unpacked)


def test_the_largest_divisor_is_taken(machine: MachineModel) -> None:
    if machine is AVX512:
        assert block(500, 16, 4000) == 250
        assert block(500, 16, 25600) == 25
        assert block(500, 16, 60000) == 500
    assert block(10, 16, 16000) == 10


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("shape", [(500, 800), (10, 3), (1, 7), (64, 1), (499, 800), (40, 90_000)])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 33])
def test_products_of_few_columns(shape: tuple[int, int], n: int) -> None:
    random = np.random.default_rng(0)
    matrix, columns, rows = (random.standard_normal(size) for size in (shape, (shape[1], n), (shape[0], n)))
    out, back = np.full((shape[0], n), np.nan), np.full((shape[1], n), np.nan)
    narrow_product(matrix, columns, out)()
    work = {name: np.full(buffer.shape, np.nan) for name, buffer in transposed_scratch(*shape, n).items()}
    join_steps(transposed_product(matrix, rows, back, work))()
    np.testing.assert_allclose(out, matrix @ columns, atol=1e-11)
    np.testing.assert_allclose(back, matrix.T @ rows, atol=1e-11)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("m", "n", "k"), [(32, 48, 128), (27, 50, 640), (144, 16, 1024), (5, 3, 200), (61, 37, 256), (9, 8, 7)]
)
def test_products_of_gradients_in_blocks(m: int, n: int, k: int) -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((3, m, k)), random.standard_normal((3, n, k))
    out = np.full((3, m, n), np.nan)
    gradient_product(left, right, out)()
    np.testing.assert_allclose(out, left @ right.swapaxes(1, 2), atol=1e-11)


def test_both_sides_of_a_gradient_are_cut(machine: MachineModel) -> None:
    if machine is AVX2:  # where blocks gain nothing
        assert gradient_block(256, 256, 256) == (256, 256)
        return
    assert gradient_block(256, 256, 256) == (32, 32)
    assert gradient_block(32, 64, 1024) == (16, 32)
    assert gradient_block(144, 16, 1024) == (48, 16)
    assert gradient_block(256, 256, 32) == (256, 256)  # too short a sum to gain
    assert gradient_block(256, 3, 512) == (256, 3)
