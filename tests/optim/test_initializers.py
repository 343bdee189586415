"""Initializers: mean, spread and bounds of what they draw."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.optim import Initializer
from cnnspec.optim.initializers import (
    Constant,
    Dirac,
    Glorot,
    He,
    LeCun,
    Normal,
    Ones,
    Orthogonal,
    TruncatedNormal,
    Zeros,
)

FANS = (100, 400)


def drawn(initializer: Initializer, seed: int = 0) -> Array:
    array = np.empty((200, 500))
    initializer.fill(array, FANS, np.random.default_rng(seed))
    return array


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (He(), sqrt(2 / 100)),
        (He(mode="fan_out"), sqrt(2 / 400)),
        (He(distribution="uniform"), sqrt(2 / 100)),
        (Glorot(), sqrt(1 / 250)),
        (Glorot(distribution="uniform"), sqrt(1 / 250)),
        (LeCun(), sqrt(1 / 100)),
        (LeCun(mode="fan_out", distribution="uniform"), sqrt(1 / 400)),
        (Normal(), 0.01),
    ],
    ids=str,
)
def test_mean_and_deviation(initializer: Initializer, deviation: float) -> None:
    array = drawn(initializer)
    # Five standard errors of a mean and of a deviation of 100,000 numbers.
    assert abs(array.mean()) < 5 * deviation / sqrt(array.size)
    assert array.std() == pytest.approx(deviation, rel=5 / sqrt(2 * array.size))


def test_uniform_stays_in_its_bounds() -> None:
    bound = sqrt(6 / 100)
    array = drawn(He(distribution="uniform"))
    assert np.abs(array).max() <= bound
    assert np.abs(array).max() > 0.999 * bound


def test_constants() -> None:
    assert (drawn(Zeros()) == 0).all()
    assert (drawn(Ones()) == 1).all()
    assert (drawn(Constant(value=0.5)) == 0.5).all()


def test_seeds() -> None:
    assert (drawn(He(), 1) == drawn(He(), 1)).all()
    assert (drawn(He(), 1) != drawn(He(), 2)).all()


def test_a_truncated_normal_ends_at_two_deviations() -> None:
    array = np.empty((200, 300))
    TruncatedNormal(mean=1.0, std=0.5).fill(array, (1, 1), np.random.default_rng(0))
    assert abs(array - 1).max() <= 1
    assert array.mean() == pytest.approx(1, abs=0.01)
    assert array.std() == pytest.approx(0.5 * 0.8796, rel=0.01)


@pytest.mark.parametrize("shape", [(4, 9), (4, 2, 3, 3), (12, 5), (5, 5), (7,)])
def test_rows_or_columns_are_orthogonal(shape: tuple[int, ...]) -> None:
    array = np.empty(shape)
    Orthogonal(gain=2.0).fill(array, (1, 1), np.random.default_rng(0))
    matrix = array.reshape(len(array), -1)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(short @ short.T, 4 * np.eye(len(short)), atol=1e-12)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 3, 3, 3), 1), ((2, 5, 1, 4), 1), ((6, 3, 3, 3), 2), ((4, 1, 3, 3), 4)]
)
def test_a_dirac_passes_channels_on_as_pytorchs_does(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    array = np.full(shape, np.nan)
    Dirac(groups=groups).fill(array, FANS, np.random.default_rng(0))
    expected = torch.nn.init.dirac_(torch.empty(shape, dtype=torch.float64), groups=groups)
    np.testing.assert_array_equal(array, expected.numpy())


def test_what_a_dirac_leaves_starts_as_the_rest() -> None:
    array, other = np.empty((7, 3, 3, 3)), np.empty((7, 3, 3, 3))
    Dirac(rest=He()).fill(array, FANS, np.random.default_rng(0))
    He().fill(other, FANS, np.random.default_rng(0))
    np.testing.assert_array_equal(array[3:], other[3:])
    assert array[:3].sum() == 3
    dense = np.empty((3, 5))
    Dirac().fill(dense, FANS, np.random.default_rng(0))
    np.testing.assert_array_equal(dense, np.eye(3, 5))
