"""`train`, `eval`, `predict`, `summary` as a person runs them: what they print, write and return."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.cli import main
from cnnspec.diagnostics import SpecError

SPEC = """\
cnnspec: 1
name: tiny
seed: 0
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3}
  - relu
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {id: logits, type: dense, units: 10}
data: {source: digits, validation: {fraction: 0.1}}
train:
  epochs: 3
  batch_size: 32
  optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}
require: {test.accuracy: ">= 0.8"}
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(name="spec")
def _spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


def train(spec: Path, *words: str) -> int:
    return main(["train", str(spec), "--out", str(spec.parent / "runs"), *words])


def test_a_run_directory_holds_everything(spec: Path, capsys: Captured) -> None:
    assert train(spec) == 0
    run = spec.parent / "runs" / "tiny"
    assert sorted(path.name for path in run.iterdir()) == [
        "best.npz",
        "epochs.jsonl",
        "last.npz",
        "loss.png",
        "metrics.csv",
        "metrics.jsonl",
        "norms.csv",
        "origins.yaml",
        "run.json",
        "spec.yaml",
    ]
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [int(row["epoch"]) for row in rows] == [line["epoch"] for line in lines] == [1, 2, 3]
    assert float(rows[-1]["validation.accuracy"]) == lines[-1]["validation.accuracy"] > 0.8
    about = json.loads((run / "run.json").read_text())
    assert about["images"] == {"train": 1293, "validation": 144, "test": 360}
    assert about["versions"]["numpy"] == np.__version__
    assert about["data"]["digits.csv.gz"]
    assert about["results"]["test.accuracy"] == lines[-1]["test.accuracy"]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert "epoch 3/3  train " in printed.err
    assert max(map(len, printed.err.replace(str(run), "runs/lenet").splitlines())) <= 80
    assert f"run directory {run}" in printed.out


def test_what_validate_warns_of_is_told_before_the_first_epoch(spec: Path, capsys: Captured) -> None:
    spec.write_text(SPEC.replace("units: 10}", "units: 10}\n  - softmax").replace("id: logits, ", ""))
    rate = ("--set", "train.optimizer={type: adam, learning_rate: 0.5}", "--set", "train.epochs=1", "--set", "require=")
    train(spec, *rate)
    before = capsys.readouterr().err.partition("epoch 1/1")[0]
    assert "tiny.yaml:11:5: warning[softmax-before-loss]" in before
    assert "--set:1:29: warning[learning-rate-too-high]" in before
    assert "help: remove this layer" in before
    train(spec, *rate, "--quiet")
    assert "warning" not in capsys.readouterr().err


def test_a_run_is_numbered_and_never_overwritten(spec: Path) -> None:
    for _ in range(3):
        assert train(spec, "--quiet", "--set", "train.epochs=1", "--set", "require=") == 0
    assert sorted(path.name for path in (spec.parent / "runs").iterdir()) == ["tiny", "tiny-2", "tiny-3"]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(spec: Path) -> None:
    for threads in ("1", "2", "4"):
        train(spec, "--quiet", "--threads", threads)
    train(spec, "--quiet", "--set", "seed=1")
    weights = []
    for name in ("tiny", "tiny-2", "tiny-3", "tiny-4"):
        with np.load(spec.parent / "runs" / name / "last.npz") as arrays:
            weights.append(b"".join(arrays[key].tobytes() for key in sorted(arrays.files) if key != "progress"))
    assert weights[0] == weights[1] == weights[2]
    assert weights[0] != weights[3]


def test_eval_and_predict_work_on_what_train_made(spec: Path, capsys: Captured, tmp_path: Path) -> None:
    assert train(spec, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run = lines[-1]["run"]
    assert main(["eval", run, "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["accuracy"] == lines[-1]["results"]["test.accuracy"]
    assert scored["loss"] == pytest.approx(lines[-1]["results"]["test.loss"], rel=1e-6)
    assert main(["eval", run, "--split", "validation", "--checkpoint", "best"]) == 0
    assert "validation: 144 images, loss" in capsys.readouterr().out
    np.save(tmp_path / "digits.npy", np.zeros((2, 8, 8), np.uint8))
    assert main(["predict", run, str(tmp_path / "digits.npy"), "--top", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert out[0].startswith(f"{tmp_path}/digits.npy[0]: ")
    assert out[0].count("%") == 2


def test_gates_that_are_not_met_end_with_4(spec: Path, capsys: Captured) -> None:
    assert train(spec, "--set", "train.epochs=1", "--set", 'require={test.accuracy: ">= 0.999"}') == 4
    assert "cnnspec: error: required test.accuracy >= 0.999, got 0." in capsys.readouterr().err


def test_a_loss_that_diverges_stops_and_keeps_the_last_good_checkpoint(spec: Path, capsys: Captured) -> None:
    assert train(spec, "--set", "train.optimizer.learning_rate=1e30") == 4
    error = capsys.readouterr().err
    assert "cnnspec: error: the loss became not a number at step " in error
    assert "help: lower the learning rate" in error
    with np.load(spec.parent / "runs" / "tiny" / "last.npz") as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)


def test_missing_data_makes_no_run_directory(
    spec: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec.write_text(SPEC.replace("[1, 8, 8]", "[1, 28, 28]").replace("digits", "mnist"))
    assert train(spec, "--data", str(tmp_path / "nowhere")) == 4
    error = capsys.readouterr().err
    assert error.startswith("cnnspec: error: mnist: no train-images-idx3-ubyte")
    assert str(tmp_path / "nowhere") in error
    assert not (spec.parent / "runs").exists()


def test_a_folder_that_cannot_be_written(spec: Path, capsys: Captured) -> None:
    (spec.parent / "runs").write_text("a file in the way")
    assert train(spec) == 4
    assert "cannot make a run directory in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "nowhere.yaml"], 2, "cannot read nowhere.yaml: No such file or directory"),
        (["train"], 2, "train needs a SPEC, or --resume RUN"),
        (["trian", "x.yaml"], 2, "unknown verb 'trian'\nhelp: did you mean train?"),
        (["eval", "nowhere"], 4, "nowhere is no run directory: it has no spec.yaml"),
        (["validate", "nowhere.yaml"], 2, "no spec at nowhere.yaml"),
    ],
)
def test_usage(words: list[str], code: int, message: str, capsys: Captured) -> None:
    assert main(words) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("old", "new", "line", "code", "help"),
    [
        ("conv2d", "conv2dd", 6, "unknown-type", "did you mean conv2d"),
        ("filters: 8", "filtres: 8", 6, "unknown-key", "did you mean filters"),
        ("kernel_size: 3}", "kernel_size: 9}", 6, "shape-mismatch", "use a kernel_size up to 8"),
        ("units: 10", "units: 12", 10, "output-mismatch", "use units: 10"),
        ("[1, 8, 8]", "[1, 9, 8]", 4, "input-mismatch", "write input: [1, 8, 8]"),
        ("name: tiny", "name: [tiny", 2, "yaml-syntax", "add the closing bracket ]"),
        ("epochs: 3", "epochs: three", 13, "invalid-value", None),
    ],
)
def test_a_wrong_spec(spec: Path, capsys: Captured, old: str, new: str, line: int, code: str, help: str | None) -> None:
    spec.write_text(SPEC.replace(old, new, 1))
    assert train(spec) == 1
    printed = capsys.readouterr().out
    assert any(text.startswith(f"{spec}:{line}:") and f"error[{code}]" in text for text in printed.splitlines()), (
        printed
    )
    assert help is None or help in printed
    assert not (spec.parent / "runs").exists()


def test_summary_explains_the_plan(capsys: Captured) -> None:
    path = str(Path(__file__).parents[2] / "specs" / "lenet.yaml")
    assert main(["summary", path, "--explain-plan", "--json"]) == 0
    chosen = {(k["layer"], k["direction"]): k for k in json.loads(capsys.readouterr().out)["kernels"]}
    assert ("conv2d_1", "input") not in chosen  # nobody wants the gradient of the images
    assert chosen["conv2d_2", "forward"]["kernel"] == "dft"
    assert {name for name, _ in chosen["conv2d_2", "forward"]["others"]} == {"direct", "patches", "winograd4"}
    assert chosen["conv2d_1", "forward"]["tile"].startswith("columns 1x")
    assert main(["summary", path, "--explain-plan"]) == 0
    assert "instead of" in capsys.readouterr().out


def test_other_kernels_are_sorted_and_a_lower_price_is_explained(capsys: Captured) -> None:
    path = str(Path(__file__).parents[2] / "specs" / "resnet20.yaml")
    assert main(["summary", path, "--explain-plan", "--json"]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    for kernel in kernels:
        prices = [price for _, price in kernel["others"]]
        assert prices == sorted(prices)
        assert kernel["kernel"] not in {name for name, _ in kernel["others"]}
    assert main(["summary", path, "--explain-plan"]) == 0
    lower = any(price < kernel["microseconds"] for kernel in kernels for _, price in kernel["others"])
    assert ("* less in this direction alone" in capsys.readouterr().out) == lower


def test_summary_explains_how_a_small_batch_is_shared(capsys: Captured) -> None:
    path = str(Path(__file__).parents[2] / "specs" / "lenet.yaml")
    assert main(["summary", path, "--explain-plan", "--batch", "5", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages[0] == {"conv2d_1": [6, 6], "max_pool2d_1": [6, 6]}  # pooled, and its relu
    assert {"logits": []} in stages
    assert main(["summary", path, "--explain-plan", "--batch", "5"]) == 0
    assert "  conv2d_1 6 + 6, max_pool2d_1 6 + 6\n" in capsys.readouterr().out
    assert main(["summary", path, "--explain-plan", "--batch", "64"]) == 0
    assert "first member" not in capsys.readouterr().out


def test_summary_counts(spec: Path, capsys: Captured) -> None:
    assert main(["summary", str(spec), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["params"] == 8 * 9 + 8 + 72 * 10 + 10
    assert figures["macs"] == 8 * 9 * 36 + 720
    assert [layer["output"] for layer in figures["layers"]] == [[8, 6, 6], [8, 6, 6], [8, 3, 3], [72], [10]]
    assert figures["memory"]["training"]["total"] > figures["memory"]["inference"]["total"]
    assert main(["summary", str(spec)]) == 0
    assert "conv2d_1" in capsys.readouterr().out


def test_the_python_interface(spec: Path) -> None:
    model = compile(spec, ["train.epochs=2"])
    rows = model.fit()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["validation.accuracy"] > 0.7
    with pytest.raises(SpecError):
        compile(spec, ["layers.logits.unitz=3"])


def test_augmentations_change_training_and_repeat(spec: Path) -> None:
    shift = ("--set", "data.augment=[{type: shift, pixels: 1}]")
    for words in ((), shift, shift):
        train(spec, "--quiet", "--set", "require=", *words)
    weights = []
    for name in ("tiny", "tiny-2", "tiny-3"):
        with np.load(spec.parent / "runs" / name / "last.npz") as arrays:
            weights.append(arrays["network/logits.weight"].tobytes())
    assert weights[0] != weights[1]
    assert weights[1] == weights[2]
