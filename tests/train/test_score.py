"""Figures of a classifier against scikit-learn's definitions, written out, and in `eval`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.spec.load import MEASURED
from cnnspec.train.score import FIGURES, Tally

ROOT = Path(__file__).parents[2]


def test_the_language_knows_all_figures() -> None:
    assert set(MEASURED) == {figure for figures in FIGURES.values() for figure in figures}


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_figures_against_loops(k: int) -> None:
    random = np.random.default_rng(k)
    labels, output = random.integers(0, 4, 60), random.standard_normal((60, 5))  # the last class never comes up
    predictions = output.argmax(axis=1)
    tally = Tally("class", 5, k)
    for part in (slice(0, 25), slice(25, 60)):
        tally.add(np.ones(60)[part], labels[part], predictions[part], output[part])
    score = tally.score(has_loss=True)
    precision, recall, f1 = [], [], []
    for c in range(5):
        right = sum((labels == c) & (predictions == c))
        p = right / max(sum(predictions == c), 1)
        r = right / max(sum(labels == c), 1)
        precision.append(p)
        recall.append(r)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    assert score.loss == 1.0
    assert score.accuracy == np.mean(labels == predictions)
    assert score.precision == pytest.approx(np.mean(precision))
    assert score.recall == pytest.approx(np.mean(recall))
    assert score.f1 == pytest.approx(np.mean(f1))
    near = [label in np.argsort(-row)[:k] for label, row in zip(labels, output, strict=True)]
    assert score.top_k == pytest.approx(np.mean(near))
    assert score.confusion is not None
    assert score.confusion[1, 2] == sum((labels == 1) & (predictions == 2))


def test_eval_and_gates_know_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "cnnspec: 1\ninput: [1, 8, 8]\nlayers: [flatten, {type: dense, units: 10}]\n"
        "data: {source: digits, preprocess: [scale]}\n"
        "train: {epochs: 5, optimizer: {type: sgd, learning_rate: 0.2}, top_k: 3}\n"
        'require: {test.f1: ">= 0.5", test.top_k: ">= 0.999"}\n'
    )
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "runs")]) == 4
    error = capsys.readouterr().err
    assert "required test.top_k >= 0.999, got 0." in error
    assert "test.f1" not in error
    run = str(tmp_path / "runs" / "net")
    assert main(["eval", run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top_k"] > found["accuracy"] > 0.5
    assert np.sum(found["confusion"]) == found["images"]
    assert main(["eval", run, "--confusion"]) == 0
    out = capsys.readouterr().out
    assert "f1 " in out
    assert "true class, and what it was taken for" in out
