"""`export`: files that were run before they are kept, nothing half-written, nothing overwritten unasked."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

import cnnspec
from cnnspec.cli import FAILED, USAGE, main
from cnnspec.export import numpy_layers

SPEC = """\
cnnspec: 1
input: [1, 8, 8]
layers: [{type: conv2d, filters: 4, kernel_size: 3, activation: relu}, flatten, {type: dense, units: 10}]
data: {source: digits}
train: {epochs: 2, optimizer: {type: adam, learning_rate: 0.01}}
"""


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.yaml").write_text(SPEC, encoding="utf-8")
    assert main(["train", str(folder / "net.yaml"), "--out", str(folder), "--quiet"]) == 0
    return next(folder.glob("*/spec.yaml")).parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_program_is_written_and_proven(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "numpy", "-o", "digits.py"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["digits.npz", "digits.py"]
    assert "numpy: 200 images: largest difference" in capsys.readouterr().out


def test_nothing_is_overwritten_unasked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("digits.npz").write_text("mine", encoding="utf-8")
    command = ["export", str(run), "--format", "numpy", "-o", "digits.py"]
    assert main(command) == FAILED
    assert "digits.npz exists" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["digits.npz"]
    assert Path("digits.npz").read_text(encoding="utf-8") == "mine"
    assert main([*command, "--overwrite"]) == 0


def test_what_does_not_agree_is_not_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = numpy_layers.WRITERS["conv2d"]
    wrong = {**numpy_layers.WRITERS, "conv2d": lambda *arguments: f"{write(*arguments)} * 1.01"}
    monkeypatch.setattr(numpy_layers, "WRITERS", wrong)
    assert main(["export", str(run), "--format", "numpy"]) == FAILED
    assert "does not give what the network gives" in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("output", ["nowhere/net.py", "net.onnx"])
def test_a_bad_place_is_one_line(run: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "numpy", "-o", output]) == FAILED
    assert capsys.readouterr().err.count("\n") == 2
    assert not list(Path().iterdir())


def test_options_of_another_format_are_refused(run: Path) -> None:
    assert main(["export", str(run), "--format", "numpy", "--opset", "17"]) == USAGE
    assert main(["export", str(run), "--format", "numpy", "--raw"]) == USAGE


def test_metrics(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "json", "-o", "metrics.json"]) == 0
    epochs = json.loads(Path("metrics.json").read_text(encoding="utf-8"))["epochs"]
    capsys.readouterr()
    assert main(["export", str(run), "--format", "csv", "-o", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["train.loss"] for row in rows] == [str(epoch["train.loss"]) for epoch in epochs]
    assert len(rows) == 2


def test_onnx_is_written_and_proven(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["export", str(run), "--format", "onnx", "-o", "digits.onnx"]) == 0
    assert [path.name for path in Path().iterdir()] == ["digits.onnx"]
    assert "onnx: 200 images: largest difference" in capsys.readouterr().out


GUIDE = Path(cnnspec.__file__).parent / "guide" / "export.md"
RECIPES = re.findall(r"^    cnnspec (export .*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_the_guide(run: Path, recipe: str) -> None:
    if "onnx" in recipe:
        pytest.importorskip("onnxruntime")
    assert main([str(run) if word == "runs/lenet" else word for word in recipe.split()]) == 0
