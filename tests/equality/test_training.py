"""Random networks trained here and by PyTorch: the same outputs, losses, gradients, weights and averages in float64."""

from __future__ import annotations

import pytest

from tests.equality.networks import Case, draw
from tests.equality.result import ours
from tests.equality.shrink import shrunk
from tests.equality.twin import compared, without_counterpart

pytest.importorskip("torch")

THREADS = (1, 2)
LIMIT = 250  # cases that are tried to make a failing one smaller


def fault(case: Case, threads: int = 1) -> str | None:
    """What is wrong with a case, in one line."""
    setup = case.setup
    try:
        found = ours(setup, threads=threads)
    except Exception as error:  # whatever it is, a valid network must not raise it
        return f"{type(error).__name__}: {error}"
    return compared(found, setup)


def check(seed: int, steps: int) -> None:
    """A case with its fault, shrunk, where it has one; every other seed is computed by two workers."""
    case, threads = draw(seed, steps), THREADS[seed % len(THREADS)]
    missing = without_counterpart(case.setup)
    if missing:
        pytest.skip(f"PyTorch's side has no {', '.join(missing)}")
    found = fault(case, threads)
    if found is None:
        return
    kind = found.split()[0]
    small = shrunk(case, lambda other: (fault(other, threads) or "-").split()[0] == kind, LIMIT)
    pytest.fail(f"{fault(small, threads)}\nsteps: {small.steps}, threads: {threads}, seed: {seed}\n\n{small.text}")


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_few_networks(seed: int) -> None:
    check(seed, steps=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_one_step(seed: int) -> None:
    check(seed, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2100))
def test_ten_steps(seed: int) -> None:
    check(seed, steps=10)
