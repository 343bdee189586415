"""A team: every task runs once, phases do not overlap, an exception comes back, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array, Step
from cnnspec.workers import Processes, Program, Semaphore, Threads, WorkerPool, Workers, shared

FORKS = Processes.supported()
CREWS = [Threads, *([Processes] if FORKS else [])]
FORKED = pytest.mark.skipif(not FORKS, reason="members are threads on this system")


def raised(error: BaseException) -> Step:
    def step() -> None:
        raise error

    return step


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_phase_ends_before_the_next_begins(size: int, made: type[Workers]) -> None:
    team, done, late = WorkerPool(size, made), shared((50, 7), "int64"), shared((50, 7), "int64")

    def task(phase: int, number: int) -> None:
        late[phase, number] = phase and (done[phase - 1] == 0).sum() + done[phase + 1 :].sum()
        done[phase, number] += 1

    team.run([[partial(task, phase, number) for number in range(7)] for phase in range(50)])
    team.close()
    assert (done == 1).all()
    assert not late.any()


@pytest.mark.parametrize("made", CREWS)
def test_an_exception_in_a_member_is_raised_and_the_team_goes_on(made: type[Workers]) -> None:
    team, ran = WorkerPool(2, made), shared((2,), "int64")
    with pytest.raises(ValueError, match="broken task"):
        team.run([[lambda: None, raised(ValueError("broken task"))]])
    with pytest.raises(Exception, match="no message"):
        team.run([[lambda: None, raised(type("Local", (Exception,), {})("no message"))]])
    with pytest.raises(ZeroDivisionError):
        team.run([[raised(ZeroDivisionError()), partial(ran.__setitem__, 1, 1)]])
    assert ran.tolist() == [0, 1]
    team.run([[partial(ran.__setitem__, 0, 2), partial(ran.__setitem__, 1, 2)]])
    team.close()
    assert ran.tolist() == [2, 2]


@pytest.mark.parametrize("made", CREWS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_failure_ends_all_phases_and_the_next_run_is_whole(size: int, made: type[Workers]) -> None:
    """Whoever fails, early or late: nobody goes on, nobody waits for one that has left."""
    team, done, broken, random = WorkerPool(size, made), shared((9, 6), "int64"), shared((3,), "int64"), Random(size)

    def task(phase: int, number: int) -> None:
        if number == broken[2]:
            time.sleep(1e-3)
        if broken[:2].tolist() == [phase, number]:
            raise ValueError("broken task")
        done[phase, number] += 1

    counts = [6, 5, 4, 1, 2, 3, 6, 1, 6]
    phases = [[partial(task, phase, number) for number in range(count)] for phase, count in enumerate(counts)]
    expected = np.array([[number < count for number in range(6)] for count in counts])
    for _ in range(25):
        phase = random.randrange(9)
        broken[:] = phase, random.randrange(counts[phase]), random.randrange(6)
        done.fill(0)
        with pytest.raises(ValueError, match="broken task"):
            team.run(phases)
        np.testing.assert_array_equal(done[:phase], expected[:phase])
        assert not done[phase + 1 :].any()
        broken.fill(-1)
        done.fill(0)
        team.run(phases)
        np.testing.assert_array_equal(done, expected)
    team.close()


def look(found: Array) -> Program:
    """Has the second member say who it is."""
    return [[lambda: None, lambda: found.fill(os.getpid())]]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@FORKED
def test_members_are_other_processes_and_go_with_the_team() -> None:
    team, found = WorkerPool(2), shared((1,), "int64")
    team.run(look(found))
    first = int(found[0])
    assert first != os.getpid()
    assert alive(first)
    del team
    assert not alive(first)


@FORKED
def test_where_no_process_can_be_made_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    team, found = WorkerPool(2), shared((1,), "int64")
    team.run(look(found))
    team.close()
    assert found[0] == os.getpid()


def test_where_the_system_has_no_semaphores_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: int = 0) -> Semaphore:
        raise FileNotFoundError("no /dev/shm")

    monkeypatch.setattr(Processes, "semaphore", staticmethod(refuse))
    team, found = WorkerPool(2), shared((1,), "int64")
    team.run(look(found))
    team.close()
    assert found[0] == os.getpid()


@FORKED
def test_what_was_announced_needs_no_new_crew() -> None:
    team, found = WorkerPool(2), shared((3, 1), "int64")
    programs = [look(place) for place in found]
    team.learn(*programs[:2])
    for program in programs:
        team.run(program)
    assert found[0] == found[1] != found[2]
    for program in programs:
        team.run(program)
    assert (found == found[0]).all()
    team.close()


@FORKED
def test_a_member_that_was_ended_from_outside_is_an_error_and_replaced() -> None:
    team, ran = WorkerPool(2), shared((1,), "int64")
    phases = [[lambda: None, lambda: os.kill(os.getpid(), signal.SIGKILL) if not ran[0] else ran.fill(2)]]
    with pytest.raises(RunError, match="ended from outside"):
        team.run(phases)
    ran.fill(1)
    team.run(phases)
    team.close()
    assert ran[0] == 2


@FORKED
def test_an_interruption_leaves_a_team_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    team, ran = WorkerPool(2), shared((1,), "int64")

    def interrupted(crew: Workers) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Processes, "_join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            team.run([[lambda: None, lambda: time.sleep(10)]])
    team.run([[lambda: None, lambda: ran.fill(1)]])
    team.close()
    assert ran[0] == 1


@FORKED
def test_a_process_that_forks_gets_a_crew_of_its_own() -> None:
    team, found = WorkerPool(2), shared((1,), "int64")
    phases = look(found)
    team.run(phases)
    before = int(found[0])
    pid = os.fork()
    if pid == 0:
        team.run(phases)
        team.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert found[0] not in (before, pid)
    team.run(phases)
    assert found[0] == before
    team.close()


KILLED = """
import os, signal, sys
from cnnspec.workers import WorkerPool, shared
team, found = WorkerPool(2), shared((1,), "int64")
held = open(sys.argv[1], "w")
team.run([[lambda: None, lambda: found.fill(os.getpid())]])
print(int(found[0]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

WAITING = """
import os, signal
from cnnspec.workers import WorkerPool, shared
team, found = WorkerPool(2), shared((1,), "int64")
never = team.semaphore()
def wait():
    found.fill(os.getpid())
    team.wait(never)
def die():
    while not found[0]:
        pass
    print(int(found[0]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
team.run([[die, wait]])
"""


@FORKED
@pytest.mark.parametrize("program", [KILLED, WAITING], ids=["between runs", "waiting in a task"])
def test_members_end_soon_after_a_caller_that_was_killed_and_hold_nothing_of_its(program: str, tmp_path: Path) -> None:
    """Its output would not end here, if a member kept it open."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "held")], capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == -signal.SIGKILL
    member = int(ended.stdout)
    while alive(member) and time.monotonic() - started < 20:
        files = Path(f"/proc/{member}/fd")
        if files.exists():
            assert not [link for link in files.iterdir() if "held" in os.readlink(link)]
        time.sleep(0.05)
    assert not alive(member)
