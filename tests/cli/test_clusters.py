"""`sweep --executor dask`: the table of a sweep by processes, on any cluster, and when a worker is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from cnnspec.cli import main
from tests.cli.test_sweep import MANY, NET, journal, program

CLUSTER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""
FEW = MANY.replace("trials: 24", "trials: 6").replace("generation: 8", "generation: 3")

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'cnnspec[dask]'")
    path = tmp_path / "net.yaml"
    path.write_text(NET + FEW)
    return path


@contextmanager
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A cluster of two workers: the address of its scheduler, and the processes of the workers."""
    program = tmp_path / "cluster.py"
    program.write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        address, *workers = process.stdout.readline().split()
        yield address, [int(worker) for worker in workers]
        process.communicate()


@contextmanager
def another_cluster() -> Iterator[None]:
    """Take the port that clusters of Dask listen on by default, unless a program of this machine has it anyway."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 8787)))
        yield


def sweep(spec: Path, out: Path, *words: str) -> bytes:
    """The table of a sweep by a program of its own."""
    command = [sys.executable, "-m", "cnnspec", "sweep", str(spec), "--out", str(out), "--quiet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return (out / "table.csv").read_bytes()


@pytest.mark.slow
def test_a_cluster_of_two_has_the_table_of_processes(spec: Path, tmp_path: Path) -> None:
    expected = sweep(spec, tmp_path / "processes")
    with another_cluster():
        assert sweep(spec, tmp_path / "dask", "--executor", "dask", "--jobs", "2") == expected
    with cluster(tmp_path) as (address, _):
        assert sweep(spec, tmp_path / "there", "--executor", "dask", "--scheduler", address) == expected


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(spec: Path, tmp_path: Path) -> None:
    expected, out = sweep(spec, tmp_path / "processes"), tmp_path / "dask"
    with cluster(tmp_path) as (address, workers):
        words = ["sweep", str(spec), "--out", str(out), "--executor", "dask", "--scheduler", address]
        with subprocess.Popen([sys.executable, "-m", "cnnspec", *words], stderr=subprocess.PIPE, text=True) as process:
            while not journal(out) and process.poll() is None:
                time.sleep(0.02)
            os.kill(workers[0], signal.SIGKILL)
            _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert f"2 at a time on the Dask cluster at {address}" in errors
    assert (out / "table.csv").read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("number", "send"), [(signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)])
def test_an_interrupted_sweep_on_a_cluster_goes_on(
    number: signal.Signals, send: Callable[[int, int], None], spec: Path, tmp_path: Path
) -> None:
    """By a signal to its process, or by a terminal's to all processes, of which this one alone acts on it."""
    expected, out = sweep(spec, tmp_path / "processes"), tmp_path / "dask"
    with program(spec, out, 2, "--executor", "dask") as process:
        while not journal(out) and process.poll() is None:
            time.sleep(0.02)
        send(process.pid, number)
        _, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert sweep(spec, out, "--jobs", "1") == expected


def test_a_scheduler_is_for_dask(spec: Path, capsys: Captured) -> None:
    assert main(["sweep", str(spec), "--scheduler", "tcp://localhost:1"]) == 2
    assert "help: say --executor dask too" in capsys.readouterr().err
