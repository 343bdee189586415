"""`sweep --executor mpi`: the table of a sweep by processes, whatever becomes of a rank, and what is refused."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.ranks.launch import launched, unlaunched
from tests.cli.test_sweep import MANY, NET, journal
from tests.ranks.test_mpiexec import ANY_RANK, ENDING_SIGNALS, LIMIT, environment, mpiexec, ranks_below, started

FEW = MANY.replace("trials: 24", "trials: 6").replace("generation: 8", "generation: 3")

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET + FEW)
    return path


@pytest.fixture
def expected(spec: Path) -> bytes:
    """The table of a sweep by processes."""
    out = spec.parent / "processes"
    assert main(["sweep", str(spec), "--out", str(out), "--quiet"]) == 0
    return (out / "table.csv").read_bytes()


def command(ranks: int, spec: Path, out: Path, *words: str) -> list[str]:
    program = [sys.executable, "-m", "cnnspec", "sweep", str(spec), "--out", str(out), "--executor", "mpi"]
    return [mpiexec(), "-n", str(ranks), *program, *words]


@contextmanager
def running(spec: Path, out: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A sweep by three ranks when one training is over, and their processes in the order of the ranks."""
    words = command(3, spec, out, "--quiet", "--set", "train.epochs=40")
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            until = time.monotonic() + LIMIT
            while not journal(out) and process.poll() is None:
                assert time.monotonic() < until, "no training came to its end"
                time.sleep(0.02)
            yield process, ranks_below(process.pid)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_any_number_of_ranks_has_the_table_of_processes(
    spec: Path, expected: bytes, ranks: int, tmp_path: Path
) -> None:
    done = started(command(ranks, spec, tmp_path / "ranks"))
    assert done.returncode == 0, done.stderr
    assert f"{ranks - 1} at a time on {ranks - 1} other rank" in done.stderr
    assert done.stdout.count("best: trial ") == 1
    assert (tmp_path / "ranks" / "table.csv").read_bytes() == expected


@pytest.mark.slow
@ANY_RANK
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_lost_ends_the_sweep_and_the_journal_goes_on(
    spec: Path, victim: int, fault: signal.Signals, tmp_path: Path
) -> None:
    with running(spec, tmp_path / "ranks") as (process, ranks):
        os.kill(ranks[victim], fault)
        output, error = process.communicate(timeout=LIMIT)
    if fault == signal.SIGSTOP:
        assert process.returncode == 4
        assert f"cnnspec: error: rank {victim} on " in error
        assert "help: the journal is whole: the same command goes on" in error
        assert error.count("cnnspec: error: ") == 1
    else:  # the launcher says it
        assert process.returncode == 9
        assert "BAD TERMINATION" in output
    before = journal(tmp_path / "ranks")
    longer = ["--quiet", "--set", "train.epochs=40"]
    assert started(command(2, spec, tmp_path / "ranks", *longer)).returncode == 0
    assert journal(tmp_path / "ranks")[: len(before)] == before
    assert main(["sweep", str(spec), "--out", str(tmp_path / "processes"), *longer]) == 0
    assert (tmp_path / "ranks" / "table.csv").read_bytes() == (tmp_path / "processes" / "table.csv").read_bytes()


@pytest.mark.slow
@ANY_RANK
@ENDING_SIGNALS
def test_a_signal_to_any_rank_ends_all_and_the_command_that_is_told_goes_on(
    spec: Path, victim: int, number: signal.Signals, tmp_path: Path
) -> None:
    with running(spec, tmp_path / "ranks") as (process, ranks):
        os.kill(ranks[victim], number)
        _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    said, told = error.strip().split(": go on with the same command: ")
    assert said == f"cnnspec: {number.name}"
    launcher, *words = shlex.split(told)
    assert launcher == "mpiexec"
    again = [sys.executable if word == "python" else word for word in words]
    done = started([mpiexec(), *again])
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "ranks" / "best.yaml").is_file()


@pytest.mark.slow
def test_a_rank_with_another_spec_is_refused(spec: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(spec.read_text().replace("seed: 3", "seed: 4"))
    first, second = (command(1, path, tmp_path / "ranks")[1:] for path in (spec, other))
    done = started([mpiexec(), *first, ":", *second])
    assert done.returncode == 4
    assert "the spec differs:\n-seed: 3\n+seed: 4" in done.stderr
    assert done.stderr.count("cnnspec: error: ") == 1
    assert not (tmp_path / "ranks").exists()


@pytest.mark.slow
def test_a_spec_that_is_changed_meanwhile_ends_all(spec: Path, tmp_path: Path) -> None:
    with running(spec, tmp_path / "ranks") as (process, _):
        spec.write_text(spec.read_text().replace("units: 10", "units: 11"))
        _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 4
    assert error.count("cnnspec: error: ") == 1
    assert f"{spec} was changed while its sweep ran" in error


@pytest.mark.parametrize(
    ("ranks", "words", "message", "cure"),
    [
        (1, ["--executor", "mpi"], "this process is alone", "mpiexec -n 5 python -m cnnspec sweep "),
        (3, [], "a launcher has started this sweep 3 times", "say --executor mpi, or leave the launcher out"),
        (3, ["--executor", "dask"], "a launcher has started this sweep 3 times", "say --executor mpi"),
        (3, ["--executor", "mpi", "--jobs", "2"], "each rank but the first has one training", "leave --jobs out"),
        (1, ["--executor", "dask", "--scheduler", "tcp://h:1", "--jobs", "2"], "each thread", "leave --jobs out"),
    ],
)
def test_what_is_refused_is_told_once(
    ranks: int, words: list[str], message: str, cure: str, spec: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(ranks):
        monkeypatch.setenv("PMI_RANK", str(rank))
        monkeypatch.setenv("PMI_SIZE", str(ranks))
        assert main(["sweep", str(spec), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("cnnspec: error: ") == 1
    assert message in error
    assert f"help: {cure}" in error


def test_what_a_rank_starts_is_no_rank() -> None:
    launcher = {"PMI_RANK": "1", "PMI_SIZE": "4"}
    assert unlaunched({**launcher, "HOME": "/home"}) == {"HOME": "/home"}
    assert launched(unlaunched(launcher)) == (0, 1)
