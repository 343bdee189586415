"""Threads: every task runs once, phases do not overlap, an exception comes back."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.team import Team


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_phase_ends_before_the_next_begins(size: int) -> None:
    team, lock, events = Team(size), threading.Lock(), list[int]()

    def record(phase: int) -> None:
        with lock:
            events.append(phase)

    team.run([[functools.partial(record, phase) for _ in range(7)] for phase in range(50)])
    team.close()
    assert events == sorted(events)
    assert len(events) == 350


def test_an_exception_in_a_worker_is_raised_and_the_team_goes_on() -> None:
    team, ran = Team(2), list[int]()

    def fail() -> None:
        raise ValueError("broken task")

    with pytest.raises(ValueError, match="broken task"):
        team.run([[lambda: None, fail]])
    team.run([[lambda: ran.append(0), lambda: ran.append(1)]])
    team.close()
    assert sorted(ran) == [0, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_tree_sum_adds_all_in_a_fixed_order(count: int) -> None:
    parts = np.random.default_rng(count).standard_normal((count, 100)).astype(np.float32)
    expected = parts.astype(np.float64).sum(0)
    tree_sum(list(parts))()
    np.testing.assert_allclose(parts[0], expected, rtol=1e-5, atol=1e-6)
