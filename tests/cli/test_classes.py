"""Classes by name: a trained network asked about data that has other classes, or fewer than it has outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import main

Image = pytest.importorskip("PIL.Image")
SPEC = """
cnnspec: 1
name: n
input: [1, 4, 4]
layers: [flatten, {{type: dense, units: {units}}}]
data: {{source: {{type: image_folder, size: 4, mode: grey, test: train}}, root: pics}}
train: {{epochs: 60, batch_size: 6, optimizer: {{type: adam, learning_rate: 0.05}}}}
"""


def fill(folder: Path, names: dict[str, int], count: int = 4) -> None:
    """Pictures that are bright in one quarter, which says what they are."""
    random = np.random.default_rng(0)
    for name, quarter in names.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 40, (4, 4)).astype(np.uint8)
            pixels[2 * (quarter // 2) :, 2 * (quarter % 2) :][:2, :2] += 200
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "pics" / "train", {"a": 0, "b": 1, "c": 2})
    (tmp_path / "spec.yaml").write_text(SPEC.format(units=5))
    assert main(["train", "spec.yaml", "--quiet", "--threads", "1"]) == 0
    return tmp_path / "runs" / "n"


def scored(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["eval", *arguments, "--threads", "1", "--json"]) == 0
    found = capsys.readouterr()
    return json.loads(found.out), found.err


def test_classes_that_are_missing_added_or_renamed_shift_no_other(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = scored(capsys, str(trained))
    assert whole["accuracy"] == 1.0
    assert whole["classes"] == ["a", "b", "c", "3", "4"]
    fill(tmp_path / "new" / "train", {"b": 1, "c": 2, "C2": 3, "aa": 0})
    score, notes = scored(capsys, str(trained), "--data", str(tmp_path / "new"))
    assert score["accuracy"] == 1.0
    assert score["images"] == 8
    assert score["confusion"][:3] == [[0] * 5, [0, 4, 0, 0, 0], [0, 0, 4, 0, 0]]
    assert "note: train/: C2 is no class of the network: 4 images of it are left out" in notes
    assert "note: train/: aa is no class of the network: 4 images of it are left out; is it a?" in notes
    assert "note: train/: no image of a" in notes


def test_the_matrix_has_a_number_for_an_output_without_a_class(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["eval", str(trained), "--confusion", "--threads", "1"]) == 0
    *_, heading, a, b, c, three, four = capsys.readouterr().out.splitlines()
    assert heading.split() == ["a", "b", "c", "3", "4"]
    assert [line.split()[0] for line in (a, b, c, three, four)] == ["a", "b", "c", "3", "4"]
    assert b.split() == ["b", ".", "4", ".", ".", "."]


def test_the_first_line_says_which_folders_are_read(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained.is_dir()
    capsys.readouterr()
    assert main(["train", "spec.yaml", "--threads", "1", "--set", "train.epochs=1"]) == 0
    said = capsys.readouterr().err
    assert "12 training images (train/), 12 test (train/), 3 classes;" in said
    assert "note: 5 outputs for 3 classes: the last 2 have none" in said


def test_eval_tells_that_files_have_changed_since_the_training(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "files were added, removed or changed since the training"
    assert said not in scored(capsys, str(trained))[1]
    (tmp_path / "pics" / "train" / "a" / "0.png").unlink()
    assert said in scored(capsys, str(trained))[1]
    assert said not in scored(capsys, str(trained), "--data", str(tmp_path / "pics"))[1]


def test_other_pictures_than_those_of_training_are_scored_wholly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "pics", {"a": 0, "b": 1, "c": 2}, 5)
    (tmp_path / "spec.yaml").write_text(SPEC.format(units=3).replace(", test: train", ""))
    assert main(["train", "spec.yaml", "--quiet", "--threads", "1"]) == 0
    shutil.copytree(tmp_path / "pics", tmp_path / "copied")
    for learned in ("pics", "copied"):
        assert scored(capsys, "runs/n", "--data", learned)[0]["images"] == 3  # those that were held out
    for other in ("flat", "checked/val"):
        fill(tmp_path / other, {"a": 0, "b": 1, "c": 2, "d": 3})
        score, notes = scored(capsys, "runs/n", "--data", other.split("/")[0])
        assert score["images"] == 12
        assert notes.count("d is no class of the network") == 1
    capsys.readouterr()
    assert main(["eval", "runs/n", "--data", "flat", "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith("test (all of flat/): 12 images")
