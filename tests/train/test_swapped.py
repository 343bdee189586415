"""Files of another training, or of another epoch, in a run's place: told by every verb that opens the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnnspec.api import load
from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.train.checkpoint import BEST, LAST, read_checkpoint
from cnnspec.train.records import about_text, read_about
from cnnspec.train.run import ABOUT, SPEC

TEXT = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 8, 8], train: 48, test: 20}, validation: {fraction: 0.2}}
train: {epochs: 3, batch_size: 16, optimizer: {type: adam, learning_rate: 0.01}, checkpoint: {every: 1 epochs, keep: 3}}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in their seed and in how pixels are scaled, of the same layers."""
    folder = tmp_path_factory.mktemp("swapped")
    (folder / "net.yaml").write_text(TEXT)
    words = ["train", str(folder / "net.yaml"), "--out", str(folder), "--quiet", "--no-curves", "--threads", "1"]
    assert main(words) == 0
    assert (
        main([*words, "--set", "seed=1", "--set", "data.preprocess=[{type: scale, maximum: 2}]", "--set", "name=other"])
        == 0
    )
    return folder


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "net", tmp_path / "net"))


@pytest.mark.parametrize("name", [LAST, BEST, SPEC, ABOUT])
def test_a_file_of_another_training_is_told(name: str, runs: Path, run: Path, capsys: Captured) -> None:
    shutil.copy(runs / "other" / name, run / name)
    checkpoint, message = "last", "last.npz was written by a training with another "
    if name == BEST:
        checkpoint, message = "best", "best.npz and last.npz beside it are of two trainings"
    for verb in (["eval"], ["export", "--format", "numpy", "-o", str(run / "made.py")], ["report"]):
        assert main([verb[0], str(run), *verb[1:], "--checkpoint", checkpoint, "--threads", "1"]) == 4
        assert message in capsys.readouterr().err
    with pytest.raises(RunError, match=message):
        load(run, checkpoint=checkpoint)


def test_the_spec_of_another_version_is_not_compared(runs: Path, run: Path) -> None:
    """Another version may know other defaults, so that the resolved spec is another text."""
    about = read_about(run / ABOUT)
    about["versions"]["cnnspec"] = "0.0.1"
    (run / ABOUT).write_text(about_text(about))
    shutil.copy(runs / "other" / SPEC, run / SPEC)
    load(run)
    about["data"] = {"synthetic": "0"}
    (run / ABOUT).write_text(about_text(about))
    with pytest.raises(RunError, match="was written by a training with another data"):
        load(run)


def test_a_best_checkpoint_of_an_earlier_epoch_is_told(run: Path, capsys: Captured) -> None:
    best = read_checkpoint(run / BEST).progress["step"]
    earlier, *_ = sorted(run.glob("step-*.npz"))
    assert read_checkpoint(earlier).progress["step"] < best
    shutil.copy(earlier, run / BEST)
    for words in (["eval", str(run), "--checkpoint", "best"], ["verify", str(run)]):
        assert main([*words, "--threads", "1"]) == 4
        assert f"the best one was behind step {best}" in capsys.readouterr().err
    assert main(["eval", str(run), "--threads", "1"]) == 0


def test_the_best_checkpoint_of_a_run_whose_last_one_is_damaged_is_opened(run: Path) -> None:
    for content in (b"", (run / LAST).read_bytes()[:-100]):
        (run / LAST).write_bytes(content)
        load(run, checkpoint="best")
