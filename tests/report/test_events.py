"""Event files of a training, read back by TensorBoard itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnspec.cli import main
from tests.cli.test_runs import SPEC


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    found: dict[str, list[tuple[int, float]]] = {}
    (file,) = folder.iterdir()
    for event in loader.LegacyEventFileLoader(str(file)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "net.yaml").write_text(SPEC)
    return tmp_path / "net.yaml"


@pytest.mark.filterwarnings("default:.*:DeprecationWarning")  # of the readers own imports
def test_every_figure_is_a_curve_and_goes_on_when_training_does(spec: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "net"
    words = ["train", str(spec), "--quiet", "--tensorboard", "--out", str(run.parent), "--max-steps", "50"]
    assert main(words) == 0
    assert [step for step, _ in read(run / "tensorboard")["loss/train"]] == [23, 46, 50]
    assert main(["train", "--resume", str(run), "--quiet", "--tensorboard", "--set", "train.epochs=4"]) == 0
    found = read(run / "tensorboard")
    assert {"loss/test", "accuracy/train", "f1/test", "learning_rate", "images_per_second"} <= set(found)
    named = {"loss/train": "train.loss", "accuracy/test": "test.accuracy", "learning_rate": "learning_rate"}
    for tag, key in named.items():
        expected = {row["step"]: row[key] for row in rows(run) if row[key] is not None}
        assert dict(found[tag]) == pytest.approx(expected, rel=1e-6)


def test_without_the_library_it_is_told_before_anything_is_made(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main(["train", str(spec), "--tensorboard", "--out", str(tmp_path / "runs")]) == 4
    error = capsys.readouterr().err
    assert error == (
        "cnnspec: error: event files need tensorboardX\nhelp: python -m pip install 'cnnspec[tensorboard]'\n"
    )
    assert not (tmp_path / "runs").exists()
