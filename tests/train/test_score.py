"""Figures of a classifier against scikit-learn's definitions, written out, and in `eval`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.train.score import Tally

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_figures_against_loops(k: int) -> None:
    random = np.random.default_rng(k)
    labels, output = random.integers(0, 4, 60), random.standard_normal((60, 6))  # class 4 is only predicted
    output[:, 5] = -9  # and class 5 is neither predicted nor there
    predictions = output.argmax(axis=1)
    tally = Tally("class", 6, k)
    for part in (slice(0, 25), slice(25, 60)):
        tally.add(part.start, np.ones(60)[part], labels[part], predictions[part], output[part])
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


def test_errors_of_values_against_loops() -> None:
    random = np.random.default_rng(0)
    values, output = random.standard_normal((30, 2)), random.standard_normal((30, 2))
    tally = Tally("values", 2, 5)
    for part in (slice(0, 11), slice(11, 30)):
        tally.add(part.start, np.ones(30)[part], values[part], None, output[part])
    score = tally.score(has_loss=True)
    errors = [abs(output[i, k] - values[i, k]) for i in range(30) for k in range(2)]
    assert score.mae == pytest.approx(sum(errors) / 60)
    assert score.rmse == pytest.approx((sum(e * e for e in errors) / 60) ** 0.5)
    explained = []
    for k in range(2):
        mean = sum(values[:, k]) / 30
        left = sum((output[i, k] - values[i, k]) ** 2 for i in range(30))
        explained.append(1 - left / sum((values[i, k] - mean) ** 2 for i in range(30)))
    assert score.r2 == pytest.approx(sum(explained) / 2)
    assert score.accuracy is None


def test_figures_of_several_labels_against_loops() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, (40, 3)).astype(np.float32)
    output = np.round(random.standard_normal((40, 3)), 1)  # with equal scores
    found = output > 0
    tally = Tally("classes", 3, 5)
    for part in (slice(0, 25), slice(25, 40)):
        tally.add(part.start, np.ones(40)[part], labels[part], found[part], output[part])
    score = tally.score(has_loss=True)
    assert score.accuracy == pytest.approx(np.mean(found == (labels == 1)))
    f1, precisions = [], []
    for k in range(3):
        right = sum(found[i, k] and labels[i, k] for i in range(40))
        f1.append(2 * right / (found[:, k].sum() + labels[:, k].sum()))
        area, recall = 0.0, 0.0
        for threshold in sorted(set(output[:, k]), reverse=True):
            chosen = output[:, k] >= threshold
            hits = sum(chosen & (labels[:, k] == 1))
            area += (hits / labels[:, k].sum() - recall) * hits / sum(chosen)
            recall = hits / labels[:, k].sum()
        precisions.append(area)
    assert score.f1 == pytest.approx(np.mean(f1))
    assert score.mean_average_precision == pytest.approx(np.mean(precisions))


def test_mean_iou_against_loops() -> None:
    random = np.random.default_rng(2)
    labels, found = random.integers(0, 3, (6, 4, 5)).astype(np.uint8), random.integers(0, 3, (6, 4, 5))
    tally = Tally("mask", 5, 5)  # two classes never come up
    for part in (slice(0, 4), slice(4, 6)):
        tally.add(part.start, np.ones(6)[part], labels[part], found[part], None)
    score = tally.score(has_loss=True)
    overlap = [np.sum((labels == k) & (found == k)) / np.sum((labels == k) | (found == k)) for k in range(3)]
    assert score.mean_iou == pytest.approx(np.mean(overlap))
    assert score.accuracy == pytest.approx(np.mean(labels == found))
