"""Targets beyond one class an image: what is learned, scored and said of each, against PyTorch and plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import cnnspec
from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import open_data
from cnnspec.diagnostics import DataError, SpecError

BODY = ["flatten", {"type": "dense", "units": 8, "activation": "tanh"}]


def spec_file(folder: Path, source: Any, units: int, loss: Any, **keys: Any) -> Path:
    """A small network on 8x8 images, with keys of `train` or of the whole spec."""
    train = {"epochs": 2, "batch_size": 8, "loss": loss, "optimizer": {"type": "sgd", "learning_rate": 0.05}}
    whole = {key: keys.pop(key) for key in ("layers", "require", "data", "input") if key in keys}
    spec = {
        "cnnspec": 1,
        "name": "net",
        "input": [1, 8, 8],
        "layers": [*BODY, {"type": "dense", "units": units}],
        "data": {"source": source},
        "train": train | keys,
    }
    path = folder / "net.yaml"
    path.write_text(yaml.safe_dump(spec | whole))
    return path


def fitted(path: Path) -> tuple[Model, Any]:
    model = cnnspec.compile(path)
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=0, input=model.spec.input, output=model.graph.output.shape)
    model.adopt(data.target)
    return model, data


def train(path: Path, *more: str) -> Path:
    out = path.parent / "runs"
    assert main(["train", str(path), "--quiet", "--out", str(out), *more]) == 0
    return max(out.iterdir(), key=lambda run: run.stat().st_mtime_ns)


TWO = {"type": "synthetic", "shape": [1, 8, 8], "classes": 2, "train": 40, "test": 20}


def test_one_output_serves_two_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    path = spec_file(tmp_path, TWO, 1, "binary_cross_entropy")
    model, data = fitted(path)
    output = model.predict(data.test.pixels)
    score = model.score(data.test)
    logits, labels = torch.tensor(output[:, 0]), torch.tensor(data.test.labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert score.loss == pytest.approx(float(expected), rel=1e-5)
    assert score.accuracy == pytest.approx(float(((logits > 0) == (labels == 1)).float().mean()))
    assert score.confusion is not None
    assert score.confusion.sum() == 20
    assert main(["validate", str(path)]) == 0
    assert main(["smoke", str(path)]) == 0
    assert main(["gradcheck", str(path)]) == 0
    run = train(path)
    assert main(["verify", str(run)]) == 0
    assert main(["eval", str(run), "--confusion"]) == 0
    assert "wrong" not in capsys.readouterr().out


@pytest.mark.parametrize(("classes", "loss"), [(3, "binary_cross_entropy"), (2, "softmax_cross_entropy")])
def test_one_output_serves_no_others(tmp_path: Path, classes: int, loss: str) -> None:
    with pytest.raises(SpecError, match=f"expected {classes} outputs, one for each class"):
        cnnspec.compile(spec_file(tmp_path, {**TWO, "classes": classes}, 1, loss))


def test_the_advice_on_one_output_is_what_validate_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"type": "npz", "train": "x.npz"}
    assert main(["validate", str(spec_file(tmp_path, unknown, 1, "softmax_cross_entropy"))]) == 0
    assert "for two classes, binary_cross_entropy" in capsys.readouterr().out
    assert main(["validate", str(spec_file(tmp_path, unknown, 1, "binary_cross_entropy"))]) == 0
    assert "warning" not in capsys.readouterr().out


def test_two_classes_that_only_files_tell_train_one_output(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "train.npz", x=pixels, y=labels)
    train(spec_file(tmp_path, "npz", 1, "binary_cross_entropy", data={"source": "npz", "root": str(tmp_path)}))
    np.savez(tmp_path / "train.npz", x=pixels, y=np.arange(40) % 3)
    with pytest.raises(DataError, match="expected at most 1"):
        fitted(tmp_path / "net.yaml")


def weighted(weights: Any) -> dict[str, Any]:
    return {"type": "softmax_cross_entropy", "class_weights": weights}


@pytest.mark.parametrize("weights", ["balanced", {"2": 5, "0": 0}, {1: 2.5}, [1, 2, 3, 4]])
def test_class_weights_count_as_in_pytorch(tmp_path: Path, weights: Any) -> None:
    """Three classes are there, and the network has an output more."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    np.savez(tmp_path / "train.npz", x=random.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=labels)
    data = {"source": "npz", "root": str(tmp_path)}
    model, found = fitted(spec_file(tmp_path, "npz", 4, weighted(weights), data=data))
    counts = np.bincount(found.train.labels)
    assert counts.tolist() == [24, 16, 8]
    expected = {
        str(["balanced"]): [*(48 / (3 * counts)), 1],
        str([{"2": 5, "0": 0}]): [0, 1, 5, 1],
        str([{1: 2.5}]): [1, 2.5, 1, 1],
    }.get(str([weights]), weights)
    logits, truth = torch.tensor(model.predict(found.test.pixels)), torch.tensor(found.test.labels)
    each = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    mean = float((each * torch.tensor(np.array(expected, np.float32))[truth]).mean())
    assert model.score(found.test).loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([-1, *[1] * 9], "expected balanced or a list of values, each a number at least 0"),
        ([0] * 10, "expected balanced or a list of values, each a number at least 0"),
        ({"0": -1}, "expected balanced or a list of values, each a number at least 0"),
        ("balancd", "expected balanced or a list of values, each a number at least 0"),
        ({"ten": 3}, "'ten' is no class of the data"),
    ],
)
def test_class_weights_that_make_no_sense(tmp_path: Path, weights: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(spec_file(tmp_path, "digits", 10, weighted(weights)))
    assert said in str(caught.value.diagnostics[0].message)


def test_weights_are_said_kept_and_the_same_in_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec_file(tmp_path, "digits", 10, weighted("balanced"), epochs=1)
    assert main(["train", str(path), "--out", str(tmp_path / "runs")]) == 0
    assert "class weights, 1 but for: 0 " in capsys.readouterr().err
    run = tmp_path / "runs" / "net"
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == row["test.loss"]
