"""A training that is killed, interrupted or cut off, and goes on: the same bits as one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.train.checkpoint import read_checkpoint
from cnnspec.train.run import LAST, METRICS_CSV, METRICS_JSONL

ROOT = Path(__file__).parents[2]
SPEC = """
cnnspec: 1
name: net
seed: 4
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: same, bias: none}
  - batch_norm
  - relu
  - {type: dropout, rate: 0.2}
  - flatten
  - {type: dense, units: 10}
data: {source: digits, augment: [{type: shift, pixels: 1}], validation: {fraction: 0.1}}
train:
  epochs: 4
  batch_size: 32
  optimizer: {type: adam, learning_rate: 0.002}
  schedule: {type: cosine, warmup: 1}
  clip: {norm: 1.0}
  accumulate: 2
  ema: 0.9
  checkpoint: {every: 7 steps}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC)
    return path


def weights(run: Path) -> dict[str, bytes]:
    found = read_checkpoint(run / LAST)
    return {name: array.tobytes() for name, array in {**found.network, **found.slots}.items()}


def metrics(run: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / METRICS_JSONL).read_text().splitlines()]
    assert len((run / METRICS_CSV).read_text().splitlines()) == len(rows) + 1
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.fixture
def whole(spec: Path, tmp_path: Path) -> Path:
    """The run that nothing happened to."""
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "whole")]) == 0
    return tmp_path / "whole" / "net"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cnnspec", "train", *words, "--quiet", "--threads", "1"]


@pytest.mark.parametrize("steps", [1, 7, 41, 45, 46, 60])
def test_a_training_that_was_cut_short_goes_on(steps: int, spec: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    assert main(["train", str(spec), "--quiet", "--out", str(out), "--max-steps", str(steps)]) == 0
    run = out / "net"
    assert read_checkpoint(run / LAST).progress["step"] == steps
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    if steps % 41 == 0:  # elsewhere an epoch ended early, and so did its row
        assert weights(run) == weights(whole)


def killed(spec: Path, out: Path, number: int, chances: random.Random, most: int) -> Path:
    """Train, sending a signal at random moments, until a training ends by itself."""
    run, words = out / "net", [str(spec), "--out", str(out)]
    for _ in range(most):
        process = subprocess.Popen(command(*words), cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + chances.uniform(0.25, 1.1)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(number)
        status = process.wait(60)
        if (run / LAST).exists():
            read_checkpoint(run / LAST)  # loads at any moment
            words = ["--resume", str(run)]
        elif run.exists():  # killed before the first checkpoint was there
            for leftover in run.iterdir():
                leftover.unlink()
            run.rmdir()
        assert status in (0, -number, 128 + number), status
    subprocess.run(command(*words), cwd=ROOT, check=True)
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_kills_leave_no_trace(number: int, spec: Path, whole: Path, tmp_path: Path) -> None:
    run = killed(spec, tmp_path / "killed", number, random.Random(number), most=4)
    assert weights(run) == weights(whole)
    assert metrics(run) == metrics(whole)
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_fifty_kills_leave_no_trace(number: int, spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 250"))
    whole = tmp_path / "whole" / "net"
    assert main(["train", str(spec), "--quiet", "--out", str(whole.parent), "--threads", "1"]) == 0
    run = killed(spec, tmp_path / "killed", number, random.Random(number + 1), most=50)
    assert weights(run) == weights(whole)
    assert metrics(run) == metrics(whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_behind_the_step(number: int, status: int, spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 5000"))
    out = tmp_path / "out"
    process = subprocess.Popen(command(str(spec), "--out", str(out)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (out / "net" / METRICS_CSV).exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"go on with: cnnspec train --resume {out / 'net'}" in error
    assert "Traceback" not in error
    assert read_checkpoint(out / "net" / LAST).progress["position"]["done"] >= 0


def test_more_epochs_may_follow_and_nothing_else_may_change(
    spec: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(whole)
    assert main(["train", "--resume", str(whole), "--set", "train.optimizer.learning_rate=0.5"]) == 4
    error = capsys.readouterr().err
    assert "was trained with another spec" in error
    assert "+  optimizer: {type: adam, learning_rate: 0.5" in error
    assert main(["train", "--resume", str(whole), "--set", "train.epochs=2"]) == 4
    assert "train.epochs: expected at least 4, got 2" in capsys.readouterr().err
    assert weights(whole) == before
    assert main(["train", "--resume", str(whole), "--quiet", "--set", "train.epochs=6"]) == 0
    assert [row["epoch"] for row in metrics(whole)] == [1, 2, 3, 4, 5, 6]
    assert main(["train", str(spec), "--resume", str(whole), "--quiet", "--set", "train.epochs=6"]) == 0


def test_what_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(tmp_path / "none")]) == 4
    assert "is no run directory" in capsys.readouterr().err


def test_earlier_checkpoints_are_kept(spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("every: 7 steps", "every: 50 steps, keep: 3"))
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "out")]) == 0
    run = tmp_path / "out" / "net"
    assert len(list(run.glob("step-*.npz"))) == 2
    for path in run.glob("*.npz"):
        read_checkpoint(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert main(["train", str(spec), "--out", str(closed / "runs")]) == 4
    assert "cannot make a run directory" in capsys.readouterr().err


def test_a_full_disk_ends_it_with_a_line_and_the_checkpoint_whole(spec: Path, whole: Path) -> None:
    """A limit on the size of files stands for a disk without space."""
    before = weights(whole)
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192));"
        "from cnnspec.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["train", "--resume", str(whole), "--quiet", "--set", "train.epochs=6"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "cannot write" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert weights(whole) == before
    assert main(["train", "--resume", str(whole), "--quiet", "--set", "train.epochs=6"]) == 0


def test_damage_at_a_thousand_places_is_found_or_harmless(whole: Path, tmp_path: Path) -> None:
    content = (whole / LAST).read_bytes()
    chances, found = np.random.default_rng(0), 0
    intact = read_checkpoint(whole / LAST)
    path = tmp_path / "damaged.npz"
    for place in chances.integers(0, len(content), 1000).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(chances.integers(8))
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except RunError:
            found += 1
            continue
        assert read.progress == intact.progress
        for name, array in {**intact.network, **intact.slots}.items():
            assert {**read.network, **read.slots}[name].tobytes() == array.tobytes()
    assert found > 900


def test_divergence_names_step_and_layer(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(spec),
        "--quiet",
        "--out",
        str(tmp_path / "out"),
        "--set",
        "train.optimizer={type: sgd, learning_rate: 1e38}",
    ]
    assert main(["train", *words, "--set", "train.schedule=constant"]) == 4
    error = capsys.readouterr().err
    assert "the loss became " in error
    assert " at step 3 (epoch 1), first in batch_norm 'batch_norm_1'" in error  # the first update is behind step 2
    assert "lower the learning rate (it was 1e+38)" in error
    read_checkpoint(tmp_path / "out" / "net" / LAST)


def test_early_stopping(spec: Path, tmp_path: Path) -> None:
    spec.write_text(
        SPEC.replace("epochs: 4", "epochs: 9\n  early_stopping: {metric: train.loss, patience: 2, minimum_change: 99}")
    )
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "out")]) == 0
    rows = metrics(tmp_path / "out" / "net")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["test.accuracy"] is not None


def test_different_seeds_differ_and_threads_do_not(spec: Path, tmp_path: Path) -> None:
    found = {}
    for seed in (1, 2):
        for threads in (1, 2, 4):
            out = tmp_path / f"{seed}-{threads}"
            words = ["--set", f"seed={seed}", "--threads", str(threads), "--max-steps", "30"]
            assert main(["train", str(spec), "--quiet", "--out", str(out), *words]) == 0
            found[seed, threads] = weights(out / "net")
    assert found[1, 1] == found[1, 2] == found[1, 4]
    assert found[2, 1] == found[2, 2] == found[2, 4]
    assert found[1, 1] != found[2, 1]
