"""A training that is killed, interrupted or cut off, and goes on: the same bits as one that never was."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.train.checkpoint import BEST, LAST, read_checkpoint
from cnnspec.train.fit import Progress
from cnnspec.train.records import about_text, read_about
from cnnspec.train.run import ABOUT, METRICS_CSV, METRICS_JSONL
from cnnspec.train.session import Session
from tests.samples import slow
from tests.train.signalled import ROOT, signalled

SPEC = """
cnnspec: 1
name: net
seed: 4
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: same, bias: none, trainable: {from: 1, until: 3}}
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
  rate_factors: {bias: 2}
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to, which no test changes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.yaml").write_text(SPEC)
    assert main(["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder)]) == 0
    return folder / "net"


@pytest.fixture
def whole(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run that nothing happened to."""
    return Path(shutil.copytree(trained, tmp_path / "whole" / "net"))


@pytest.mark.parametrize("steps", [slow(1), 7, 41, slow(45), 60])
def test_a_training_that_was_cut_short_goes_on(steps: int, spec: Path, whole: Path, tmp_path: Path) -> None:
    out, threads = tmp_path / "cut", str(steps % 3 + 1)
    words = ["--out", str(out), "--max-steps", str(steps), "--threads", threads]
    assert main(["train", str(spec), "--quiet", *words]) == 0
    run = out / "net"
    assert read_checkpoint(run / LAST).progress["step"] == steps
    assert main(["verify", str(run), "--all"]) == 0
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert weights(run) == weights(whole)
    assert main(["verify", str(run)]) == 0
    if steps % 41:  # where an epoch was the last one once, its row has test figures too
        assert metrics(run) == metrics(whole)


@pytest.mark.parametrize(
    "optimizer", ["{type: nesterov, learning_rate: 0.02}", "muon\n  lookahead: {every: 3}"], ids=["nesterov", "muon"]
)
def test_a_velocity_goes_on(optimizer: str, tmp_path: Path) -> None:
    """It is kept times the rate, which is another one in every step."""
    path, steps = tmp_path / "net.yaml", 50
    text = SPEC.replace("{type: adam, learning_rate: 0.002}", optimizer)
    path.write_text(text.replace("  clip: {norm: 1.0}\n  accumulate: 2\n", "").replace("epochs: 4", "epochs: 2"))
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "whole")]) == 0
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "cut"), "--max-steps", str(steps)]) == 0
    assert main(["train", "--resume", str(tmp_path / "cut" / "net"), "--quiet"]) == 0
    assert weights(tmp_path / "cut" / "net") == weights(tmp_path / "whole" / "net")


def test_a_part_of_an_epoch_is_where_a_training_ends_or_goes_on(tmp_path: Path) -> None:
    """2.5 epochs of 41 steps end after 102; with more epochs the third is finished and recorded anew."""
    path = tmp_path / "net.yaml"
    path.write_text(SPEC.replace("{type: cosine, warmup: 1}", "constant").replace("epochs: 4", "epochs: 2.5"))
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path)]) == 0
    run = tmp_path / "net"
    assert read_checkpoint(run / LAST).progress["step"] == 102
    before = metrics(run)
    assert [row["step"] for row in before] == [41, 82, 102]
    assert before[-1]["test.accuracy"] is not None
    assert main(["verify", str(run), "--all"]) == 0
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert metrics(run) == before
    assert main(["train", "--resume", str(run), "--quiet", "--set", "train.epochs=3"]) == 0
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "at once"), "--set", "train.epochs=3"]) == 0
    assert weights(run) == weights(tmp_path / "at once" / "net")
    assert metrics(run) == metrics(tmp_path / "at once" / "net")


@pytest.mark.parametrize("step", [slow(40), 41, slow(42)])
def test_a_signal_at_the_seam_of_two_epochs(
    step: int, spec: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Session.watch

    def interrupted(session: Session, progress: Progress) -> None:
        if progress.position.step == step:
            signal.raise_signal(signal.SIGTERM)
        watch(session, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "watch", interrupted)
        assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "cut")]) == 143
    run = tmp_path / "cut" / "net"
    assert read_checkpoint(run / LAST).progress["step"] == step
    assert read_about(run / ABOUT)["stopped"] == "interrupted by SIGTERM"
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert "stopped" not in read_about(run / ABOUT)
    assert weights(run) == weights(whole)
    assert metrics(run) == metrics(whole)


def test_a_training_that_is_finished_says_so(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert main(["train", "--resume", str(whole)]) == 0
    told = capsys.readouterr()
    assert "nothing is left to do behind step 164; for more: --set train.epochs=N" in told.err
    assert "test accuracy " in told.out
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def forget_results(run: Path) -> None:
    """As a kill leaves a run directory: between the last checkpoint and the results."""
    about = read_about(run / ABOUT)
    (run / ABOUT).write_text(about_text({key: about[key] for key in about if key not in ("results", "unmet")}))


def test_results_that_a_kill_cut_off_are_written_by_resume(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads((whole / ABOUT).read_text())["results"]
    checkpoint = (whole / LAST).read_bytes()
    forget_results(whole)
    assert main(["train", "--resume", str(whole)]) == 0
    assert "test accuracy " in capsys.readouterr().out
    again = json.loads((whole / ABOUT).read_text())
    assert again["unmet"] == []
    assert {**again["results"], "seconds": 0} == {**results, "seconds": 0}
    assert (whole / LAST).read_bytes() == checkpoint


def test_a_cut_training_without_results_has_nothing_to_say(spec: Path, tmp_path: Path) -> None:
    words = ["--quiet", "--max-steps", "10"]
    assert main(["train", str(spec), *words, "--out", str(tmp_path / "cut")]) == 0
    run = tmp_path / "cut" / "net"
    forget_results(run)
    assert main(["train", "--resume", str(run), *words]) == 0
    assert read_checkpoint(run / LAST).progress["step"] == 10


def killed(spec: Path, out: Path, number: int, chances: random.Random, most: int) -> Path:
    """Train, with a signal at random moments, and let the last training end by itself.

    Every fourth moment is counted from the start of the process, the others from one of its first checkpoints on.
    """
    run, words, steps = out / "net", [str(spec), "--out", str(out)], [0]
    for kill in range(most):
        checkpoints = 0 if kill % 4 == 3 else chances.randrange(1, 6)
        calls = chances.randrange(6_000 if checkpoints else 300_000)  # of some steps, or before the first one
        status, error = signalled(number, checkpoints, [calls], *words)
        assert status in (-number, 128 + number), error
        if (run / LAST).exists():
            steps.append(read_checkpoint(run / LAST).progress["step"])  # it loads at any moment
            words = ["--resume", str(run)]
        elif run.exists():  # killed before the first checkpoint was there
            shutil.rmtree(run)
    print(f"{signal.Signals(number).name} behind the steps {steps[1:]}")
    assert len(set(steps)) > most / 2
    assert main(["train", *words, "--quiet", "--threads", "1"]) == 0
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, slow(signal.SIGTERM)])
def test_kills_leave_no_trace(number: int, spec: Path, tmp_path: Path) -> None:
    kills_leave_no_trace(spec, tmp_path, number, most=4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_fifty_kills_leave_no_trace(number: int, spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 40"))
    kills_leave_no_trace(spec, tmp_path, number, most=50)


def kills_leave_no_trace(spec: Path, folder: Path, number: int, most: int) -> None:
    assert main(["train", str(spec), "--quiet", "--out", str(folder / "whole")]) == 0
    whole, run = folder / "whole" / "net", killed(spec, folder / "killed", number, random.Random(number), most)
    assert weights(run) == weights(whole)
    assert metrics(run) == metrics(whole)
    assert (run / BEST).read_bytes() == (whole / BEST).read_bytes()
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert main(["verify", str(run), "--threads", "1"]) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_behind_the_step(number: int, status: int, spec: Path, tmp_path: Path) -> None:
    found, error = signalled(number, 9, [500], str(spec), "--out", str(tmp_path))
    assert found == status
    assert f"go on with: cnnspec train --resume {tmp_path / 'net'}" in error
    assert len(error.splitlines()) == 1
    progress = read_checkpoint(tmp_path / "net" / LAST).progress
    assert progress["step"] >= 50
    assert progress["position"]["epoch"] == 2


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
    told = [line for line in done.stderr.splitlines() if not line.startswith("cnnspec: note: ")]
    assert len(told) <= 2
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


def test_early_stopping(spec: Path, tmp_path: Path) -> None:
    spec.write_text(
        SPEC.replace("epochs: 4", "epochs: 9\n  early_stopping: {metric: train.loss, patience: 2, minimum_change: 99}")
    )
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "out")]) == 0
    rows = metrics(tmp_path / "out" / "net")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["test.accuracy"] is not None
    assert main(["train", "--resume", str(tmp_path / "out" / "net"), "--quiet"]) == 0
    assert metrics(tmp_path / "out" / "net") == rows


def test_different_seeds_differ_and_threads_do_not(spec: Path, tmp_path: Path) -> None:
    found = {}
    for seed, threads in ((1, 1), (1, 2), (1, 4), (2, 4)):
        out = tmp_path / f"{seed}-{threads}"
        words = ["--set", f"seed={seed}", "--threads", str(threads), "--max-steps", "30", "--no-curves"]
        assert main(["train", str(spec), "--quiet", "--out", str(out), *words]) == 0
        found[seed, threads] = weights(out / "net")
    assert found[1, 1] == found[1, 2] == found[1, 4] != found[2, 4]


@pytest.mark.parametrize(("schedule", "told"), [("cosine", True), ("constant", False)])
def test_more_epochs_under_a_schedule_that_knows_the_end_are_told(
    spec: Path, schedule: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 1").replace("type: cosine, warmup: 1", f"type: {schedule}"))
    assert main(["train", str(spec), "--quiet", "--out", str(spec.parent / "runs")]) == 0
    run = str(spec.parent / "runs" / "net")
    assert main(["train", "--resume", run, "--quiet", "--set", "train.epochs=2"]) == 0
    found = "train.epochs 1 to 2 stretches the schedule cosine: epoch 2 starts again at a learning rate of 0.001"
    assert (found in capsys.readouterr().err) == told
    assert main(["verify", run]) == (4 if told else 0)
    assert (
        "whether --resume added epochs: under cosine one training of them all has" in capsys.readouterr().err
    ) == told
