"""`train --folds` and `--seeds`: what each run is, and the mean and spread of all; balanced sampling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.data import Order
from cnnspec.data.split import fold_of
from tests.samples import slow

SPEC = """
cnnspec: 1
name: net
seed: 4
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: digits, train: {limit: 200}}
train: {epochs: 1, batch_size: 50, optimizer: {type: sgd, learning_rate: 0.2}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize(
    ("flags", "names", "figure"),
    [
        (["--folds", "3"], ["net-fold-1", "net-fold-2", "net-fold-3"], "validation.accuracy"),
        slow(["--seeds", "2"], ["net-seed-4", "net-seed-5"], "test.loss"),
        slow(
            ["--folds", "2", "--seeds", "2"],
            [f"net-fold-{f}-seed-{s}" for f in (1, 2) for s in (4, 5)],
            "validation.f1",
        ),
    ],
)
def test_each_is_a_run_of_its_own(
    spec: Path, flags: list[str], names: list[str], figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = spec.parent / "runs"
    assert main(["train", str(spec), "--out", str(runs), "--json", *flags]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(path.name for path in runs.iterdir()) == sorted(names)
    assert [Path(path).name for path in last["runs"]] == names
    values = [json.loads((runs / name / "run.json").read_text())["results"][figure] for name in names]
    assert last["figures"][figure]["mean"] == pytest.approx(np.mean(values))
    assert last["figures"][figure]["spread"] == pytest.approx(np.std(values, ddof=1))
    assert len(set(values)) > 1
    assert main(["verify", str(runs / names[1])]) == 0
    assert main(["train", str(spec), "--out", str(runs), *flags]) == 0
    assert f"{len(names)} runs, mean and standard deviation:" in capsys.readouterr().out


def test_a_requirement_that_one_run_misses_is_told(spec: Path) -> None:
    spec.write_text(SPEC + 'require: {test.accuracy: ">= 2"}\n')
    assert main(["train", str(spec), "--quiet", "--out", str(spec.parent / "runs"), "--seeds", "2"]) == 4
    assert len(list((spec.parent / "runs").iterdir())) == 2


@pytest.mark.parametrize("flags", [["SPEC", "--folds", "1"], ["--resume", "RUN", "--seeds", "2"]])
def test_what_cannot_be_repeated_is_told(spec: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(spec), "--quiet", "--out", str(spec.parent / "runs")]) == 0
    named = {"RUN": str(spec.parent / "runs" / "net"), "SPEC": str(spec)}
    assert main(["train", *(named.get(flag, flag) for flag in flags)]) == 4
    assert "--folds" in capsys.readouterr().err


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_every_image_is_in_one_fold_and_every_class_in_all(folds: int) -> None:
    labels = np.random.default_rng(0).choice(4, 120, p=[0.6, 0.2, 0.15, 0.05])
    parts = [fold_of(labels, folds, fold, seed=1) for fold in range(1, folds + 1)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(120))
    counts = np.array([np.bincount(labels[part], minlength=4) for part in parts])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert not np.array_equal(parts[0], fold_of(labels, folds, 1, seed=2))


@pytest.mark.parametrize("counts", [[60, 30, 10], [7, 1], [1, 1, 99]])
def test_balanced_sampling_draws_every_class_alike(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)) + 2, counts)
    order = Order(len(labels), 8, 5, labels)
    drawn = np.concatenate(list(order.epoch(3)))
    assert len(drawn) == len(labels)
    classes = np.bincount(labels[drawn])[2:]
    assert classes.max() - classes.min() <= 1
    for label, count in enumerate(counts):
        times = np.bincount(drawn[labels[drawn] == label + 2], minlength=len(labels))[labels == label + 2]
        assert len(times) == count
        assert times.max() - times.min() <= 1
    np.testing.assert_array_equal(drawn, np.concatenate(list(order.epoch(3))))
    assert not np.array_equal(drawn, np.concatenate(list(order.epoch(4))))


def test_balanced_sampling_trains_is_resumed_and_verified(spec: Path) -> None:
    runs, balanced = spec.parent / "runs", ["--set", "data.train.sampling=balanced"]
    out = ["--quiet", "--out", str(runs), *balanced]
    assert main(["train", str(spec), *out]) == 0
    assert main(["train", str(spec), *out, "--max-steps", "2"]) == 0
    assert main(["train", "--resume", str(runs / "net-2"), "--quiet"]) == 0
    ends = [json.loads((runs / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("net", "net-2")]
    assert ends[0]["weights"] == ends[1]["weights"]
    assert main(["verify", str(runs / "net"), "--all"]) == 0


def test_balanced_sampling_needs_classes(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(
        SPEC.replace("source: digits", "source: {type: synthetic, shape: [1, 8, 8], target: classes}").replace(
            "limit: 200", "sampling: balanced"
        )
    )
    assert main(["validate", str(spec), "--set", "train.loss=binary_cross_entropy"]) == 1
    assert "balanced needs one class an image" in capsys.readouterr().out
