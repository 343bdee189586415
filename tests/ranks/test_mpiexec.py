"""Trainings by several processes of an MPI launcher: the bits of one process, one message for a fault, no hang."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.ranks.launch import launched
from cnnspec.train.checkpoint import LAST
from cnnspec.train.run import Run

ROOT = Path(__file__).parents[2]
NET = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: half, bias: none}
  - batch_norm
  - relu
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {type: dropout, rate: 0.2}
  - {type: dense, units: 300}
  - relu
  - {type: dense, units: 10}
data: {source: digits, train: {limit: 400}, validation: {fraction: 0.2}, augment: [{type: shift, pixels: 1}]}
train:
  optimizer: {type: sgd, learning_rate: 0.05, momentum: 0.9}
  batch_size: 100
  epochs: 3
  ema: 0.9
  accumulate: 2
  clip: {norm: 1}
"""
FAR = "train.epochs=100000"
LIMIT = 600  # seconds; a training that hangs is ended by then

ANY_RANK = pytest.mark.parametrize("victim", [0, 1])
ENDING_SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])

Captured = pytest.CaptureFixture[str]


def mpiexec() -> str:
    """The launcher beside this Python, or in PATH."""
    found = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if find_spec("mpi4py") is None or found is None:
        pytest.skip("mpi4py or mpiexec is not here: python -m pip install 'cnnspec[mpi]'")
    return found


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cnnspec", "train", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def started(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)


def train(ranks: int, *words: str, status: int = 0) -> str:
    """Train by as many ranks; what they say on standard error."""
    done = started([mpiexec(), "-n", str(ranks), *command(*words, "--threads", "1")])
    assert done.returncode == status, done.stderr
    return done.stderr


@contextmanager
def running(spec: Path, ranks: int, out: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A long training by as many ranks, when it has begun, and their processes in the order of the ranks."""
    words = [mpiexec(), "-n", str(ranks), *command(str(spec), "--out", str(out), "--quiet", "--set", FAR)]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + LIMIT
            while not (out / "net" / "metrics.jsonl").is_file() and process.poll() is None:
                assert time.monotonic() < until, "the training did not begin"
                time.sleep(0.05)
            yield process, ranks_below(process.pid)
        finally:
            process.kill()


def ranks_below(launcher: int) -> list[int]:
    """The processes that a launcher has started, directly or not, in the order of their ranks; not their workers."""
    parents, found = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            pid, parent = int(path.name), int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            given = dict(item.split("=", 1) for item in (path / "environ").read_text().split("\0") if "=" in item)
            words = (path / "cmdline").read_text()
        except (OSError, ValueError):  # it has ended since
            continue
        parents[pid] = parent
        rank, _ = launched(given)
        if "cnnspec" in words and len(given.keys() & {"PMI_RANK", "OMPI_COMM_WORLD_RANK"}):
            found[pid] = rank
    own = {pid: rank for pid, rank in found.items() if parents[pid] not in found and launcher in _above(pid, parents)}
    return sorted(own, key=own.__getitem__)


def _above(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def files(run: Path) -> list[bytes]:
    """The checkpoints of a run; what it measured is in them."""
    return [(run / name).read_bytes() for name in (LAST, "best.npz")]


@pytest.fixture
def alone(spec: Path, tmp_path: Path) -> Path:
    """The run of one process."""
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "alone")]) == 0
    return tmp_path / "alone" / "net"


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_train_to_the_bits_of_one_process(spec: Path, alone: Path, ranks: int, tmp_path: Path) -> None:
    error = train(ranks, str(spec), "--out", str(tmp_path))
    assert f"{ranks} ranks (" in error  # and the library by which they exchange
    assert files(tmp_path / "net") == files(alone)
    assert Run.existing(tmp_path / "net").about()["ranks"] == ranks
    assert main(["verify", str(tmp_path / "net")]) == 0  # by one process


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_to_the_same_bits(spec: Path, alone: Path, tmp_path: Path) -> None:
    train(3, str(spec), "--out", str(tmp_path), "--max-steps", "3", "--quiet")
    train(2, "--resume", str(tmp_path / "net"), "--max-steps", "6", "--quiet")
    assert main(["train", "--resume", str(tmp_path / "net"), "--quiet", "--max-steps", "7"]) == 0
    train(2, "--resume", str(tmp_path / "net"), "--quiet")
    assert files(tmp_path / "net") == files(alone)


@pytest.mark.slow
def test_a_batch_that_ranks_cannot_divide(spec: Path, tmp_path: Path) -> None:
    error = train(4, str(spec), "--out", str(tmp_path / "runs"), status=4)
    assert error.count("cnnspec: error: ") == 1
    assert "a batch of 100 images has 3 shards, too few for 4 ranks" in error
    assert "start no more than 3, or set train.batch_size to 128 or more" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "seed=4"], "the spec differs:\n-seed: 0\n+seed: 4"),
        (["--max-steps", "3"], "--max-steps is 3, not None"),
        (["--no-test"], "--no-test is True, not False"),
        (["--set", "data.train.limit=300"], "-  train: {limit: 400, "),
    ],
)
def test_ranks_that_would_compute_something_else(spec: Path, words: list[str], message: str, tmp_path: Path) -> None:
    same = command(str(spec), "--out", str(tmp_path / "runs"))
    done = started([mpiexec(), "-n", "1", *same, ":", "-n", "1", *same, *words])
    assert done.returncode == 4
    assert "rank 1 on " in done.stderr
    assert message in done.stderr
    assert done.stderr.count("cnnspec: error: ") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_rank_that_fails_ends_all_and_is_named(spec: Path, tmp_path: Path) -> None:
    same = [mpiexec(), "-n", "1", *command(str(spec), "--out", str(tmp_path))]
    done = started([*same, ":", "-n", "1", *command(str(tmp_path / "nothing.yaml"))])
    assert done.returncode == 2
    assert "cnnspec: error: rank 1 on " in done.stderr
    assert "nothing.yaml" in done.stderr
    assert done.stderr.count("cnnspec: error: ") == 1


@pytest.mark.slow
def test_the_first_of_several_failures_is_told_alone(spec: Path, tmp_path: Path) -> None:
    wrong = command(str(tmp_path / "nothing.yaml"))
    done = started([mpiexec(), "-n", "1", *command(str(spec), "--out", str(tmp_path)), ":", "-n", "2", *wrong])
    assert done.returncode == 2
    assert re.search(r"cnnspec: error: rank [12] on ", done.stderr)
    assert done.stderr.count("cnnspec: error: ") == 1


@pytest.mark.slow
def test_a_spec_that_is_wrong_on_one_rank_alone_is_told_at_its_place(spec: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(NET.replace("name: net", "name: net\nplugins: [missing.py]"))
    same = [mpiexec(), "-n", "1", *command(str(spec), "--out", str(tmp_path / "runs"))]
    done = started([*same, ":", "-n", "1", *command(str(wrong))])
    assert done.returncode == 1
    assert re.search(rf"cnnspec: error: rank 1 on .*: {re.escape(str(wrong))}:4:11: .*missing\.py", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_a_rank_that_never_starts_ends_the_others(spec: Path, present: int, tmp_path: Path) -> None:
    code = """
from cnnspec.ranks import launch
launch.PATIENT, launch.START = 1, 2
from cnnspec.cli import main
raise SystemExit(main())
"""
    programs = [["true"], ["true"]]
    programs[present] = [sys.executable, "-c", code, "train", str(spec), "--out", str(tmp_path / "runs")]
    done = started([mpiexec(), "-n", "1", *programs[0], ":", "-n", "1", *programs[1]])
    assert done.returncode != 0
    assert f"cnnspec: error: not all of the 2 ranks have started within {2 + present} seconds" in done.stderr
    assert re.search(rf"note: rank {present} on .* waits for other ranks to start: all 2 .* within 2 s", done.stderr)
    assert "help: those are missing that do not say that they wait" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_rank_waits_until_the_launcher_has_read_what_it_printed(tmp_path: Path) -> None:
    code = """
import sys
from cnnspec.ranks import printed
printed.PASSED_ON = 600
print("an error", file=sys.stderr, flush=True)
print("printed", flush=True)
printed.wait_for_launcher()
open(sys.argv[1], "w").close()
"""
    over = tmp_path / "over"
    words = [sys.executable, "-c", code, str(over)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "printed\n"
        time.sleep(0.5)  # it would have ended by now, on most machines
        assert not over.exists()
        assert process.stderr.read() == "an error\n"
    assert process.returncode == 0
    assert over.exists()


@pytest.mark.slow
@ANY_RANK
@ENDING_SIGNALS
def test_a_signal_to_any_rank_ends_all_behind_the_same_step(
    spec: Path, victim: int, number: signal.Signals, tmp_path: Path
) -> None:
    with running(spec, 2, tmp_path) as (process, ranks):
        os.kill(ranks[victim], number)
        _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    assert f"{number.name}: go on with: cnnspec train --resume {tmp_path / 'net'}" in error
    assert main(["verify", str(tmp_path / "net")]) == 0


@pytest.mark.slow
@ANY_RANK
def test_a_rank_that_is_stopped_ends_all_and_is_named(spec: Path, victim: int, tmp_path: Path) -> None:
    with running(spec, 2, tmp_path) as (process, ranks):
        os.kill(ranks[victim], signal.SIGSTOP)
        _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 4
    assert f"cnnspec: error: rank {victim} on " in error
    assert "no sign of life for 7 seconds" in error
    assert error.count("cnnspec: error: ") == 1


@pytest.mark.slow
def test_ranks_killed_at_random_moments_go_on_to_the_same_bits(spec: Path, alone: Path, tmp_path: Path) -> None:
    """As often as CNNSPEC_KILLS says: the rank and the moment are random, the end is not."""
    moments, run = random.Random(), tmp_path / "net"
    for _ in range(int(os.environ.get("CNNSPEC_KILLS", "3"))):
        shutil.rmtree(run, ignore_errors=True)
        words = [str(spec), "--out", str(tmp_path), "--quiet", "--threads", "1"]
        with subprocess.Popen([mpiexec(), "-n", "2", *command(*words)], env=environment()) as process:
            while not (run / LAST).is_file() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.6))
            found = ranks_below(process.pid)
            if found:
                with suppress(ProcessLookupError):  # the training may end in this moment
                    os.kill(moments.choice(found), signal.SIGKILL)
            process.wait(timeout=LIMIT)
        assert main(["train", "--resume", str(run), "--quiet"]) == 0
        assert files(run) == files(alone)


def test_without_mpi_a_launched_process_says_what_to_install(spec: Path) -> None:
    code = "import sys; sys.modules['mpi4py'] = None; from cnnspec.cli import main; sys.exit(main())"
    for rank in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, "train", str(spec)],
            env={**environment(), "PMI_RANK": rank, "PMI_SIZE": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4
        if rank == "0":
            assert "a launcher has started 2 processes, but MPI cannot be loaded to join them" in done.stderr
            assert "python -m pip install 'cnnspec[mpi]'" in done.stderr
        else:
            assert done.stderr == ""


@pytest.mark.slow
def test_a_library_that_the_launcher_does_not_know(spec: Path) -> None:
    mpiexec()
    done = subprocess.run(
        command(str(spec)),
        env={**environment(), "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "a launcher has started 2 processes, but " in done.stderr


def test_several_trainings_are_not_for_ranks(capsys: Captured, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["train", str(spec), "--folds", "3"]) == 2
    assert "--folds and --seeds are several trainings, of one process each" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["validate", "eval"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_other_verbs_are_not_for_ranks(
    capsys: Captured, spec: Path, monkeypatch: pytest.MonkeyPatch, verb: str, rank: str
) -> None:
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main([verb, str(spec)]) == 2
    said = capsys.readouterr()
    message = f"a launcher has started {verb} 2 times, but it is the work of one process"
    assert (message in said.err) == (rank == "0")
    assert not said.out


def test_what_launchers_say() -> None:
    assert launched({}) == (0, 1)
    assert launched({"PMI_RANK": "3", "PMI_SIZE": "4"}) == (3, 4)
    assert launched({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}) == (1, 2)
    assert launched({"PMIX_RANK": "1", "SLURM_STEP_NUM_TASKS": "8"}) == (1, 8)
    assert launched({"PMI_RANK": "1"}) == (0, 1)
