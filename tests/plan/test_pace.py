"""The faster way is found, and found anew when the machine changes; what that costs is bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnspec.plan import Team
from cnnspec.plan.crew import Processes, Threads
from cnnspec.plan.memory import shared
from cnnspec.plan.pace import BRIEF, BURST, FIRST, HOPELESS, PERIOD, Pace


def runs(pace: Pace, count: int, seconds: Callable[[bool], float]) -> list[bool]:
    """Which runs were all members', if each way takes so long."""
    ways = []
    for _ in range(count):
        ways.append(pace.together)
        pace.note(seconds(pace.together))
    return ways


def test_all_members_begin() -> None:
    assert all(runs(Pace(), FIRST, lambda together: 1e-4))


def test_the_caller_goes_on_alone_where_meetings_cost_more_than_they_gain() -> None:
    pace = Pace()
    assert not any(runs(pace, FIRST + 2 * BURST + 100, lambda together: 2e-4 if together else 1.5e-4)[-100:])
    # and turns back when that changes
    ways = runs(pace, PERIOD + 2 * BURST + 100, lambda together: 1e-4 if together else 1.5e-4)
    assert all(ways[-100:])


def test_trials_cost_little() -> None:
    ways = runs(Pace(), 10 * PERIOD, lambda together: 1e-4 if together else 2e-4)
    assert 9 * HOPELESS <= ways.count(False) <= 10 * HOPELESS


def test_one_slow_run_decides_nothing() -> None:
    pace, count = Pace(), iter(range(10**6))
    ways = runs(pace, 5 * PERIOD, lambda together: (1e-4 if together else 1.1e-4) * (5 if next(count) % 3 == 0 else 1))
    assert ways[-1]
    assert ways.count(False) <= 5 * BURST


def test_long_programs_are_all_members_work() -> None:
    assert all(runs(Pace(), 3 * PERIOD, lambda together: BRIEF if together else BRIEF / 2))


@pytest.mark.parametrize("made", [Threads, *([Processes] if Processes.supported() else [])])
def test_either_way_every_task_runs_once(made: type[Threads] | type[Processes]) -> None:
    team, counts = Team(2, made), shared((3,), "int64")

    def count(index: int) -> Callable[[], None]:
        def task() -> None:
            counts[index] += 1

        return task

    phases = [[count(0), count(1)], [count(2)]]
    for turn in range(FIRST + 3 * BURST):
        team.run(phases)
        assert counts.tolist() == [turn + 1] * 3
    team.close()
