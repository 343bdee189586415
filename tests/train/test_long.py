"""A training of thousands of epochs: what it keeps in memory for each of them."""

from __future__ import annotations

import gc
import importlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.train import Epoch
from cnnspec.train.network import Network
from cnnspec.train.records import read_rows
from cnnspec.train.run import METRICS_JSONL, Run

WHAT = ("loss", "accuracy")
SPEC = """
cnnspec: 1
name: net
input: [1, 4, 4]
layers: [flatten, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 4, 4], train: 20, test: 10}}
train:
  epochs: 60
  batch_size: 20
  schedule: {type: plateau, metric: train.loss, patience: 100}
  early_stopping: {metric: train.loss, patience: 100}
"""


def test_an_epoch_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[int, int] = {}
    record = Run.record

    def measured(run: Run, model: Network, epoch: Epoch) -> bool:
        best = record(run, model, epoch)
        if epoch.epoch in (20, 60):
            gc.collect()
            sizes[epoch.epoch] = tracemalloc.get_traced_memory()[0]
        return best

    monkeypatch.setattr(Run, "record", measured)
    (tmp_path / "net.yaml").write_text(SPEC)
    words = ["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path), "--quiet", "--no-curves", "--threads", "1"]
    tracemalloc.start()
    try:
        assert main(words) == 0
    finally:
        tracemalloc.stop()
    lines = (tmp_path / "net" / METRICS_JSONL).read_text().splitlines()
    assert json.loads(lines[-1])["epoch"] == 60
    assert sizes[60] - sizes[20] < 40 * min(map(len, lines))  # a row takes more in memory than its text


def test_rows_share_the_names_of_their_figures(tmp_path: Path) -> None:
    row = {"step": 1, "train.loss": 0.5, "weights": "0" * 16}
    (tmp_path / METRICS_JSONL).write_text("".join(json.dumps({"epoch": n, **row}) + "\n" for n in (1, 2)))
    first, second = read_rows(tmp_path / METRICS_JSONL)
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_curves_of_thousands_of_epochs_have_no_marks_that_hide_them(tmp_path: Path) -> None:
    """A mark of 3 points on each of 3,000 epochs would make a band of the line."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    draw = importlib.import_module("cnnspec.report").draw_curves
    figures = dict.fromkeys([f"{split}.{what}" for split in ("train", "validation", "test") for what in WHAT])
    rows = [{"epoch": number, **figures, "train.loss": 1.0} for number in range(1, 3001)]
    ink = []
    for count in (100, 3000):
        draw(rows[:count], tmp_path / "loss.png", "net")
        pixels = np.asarray(image.open(tmp_path / "loss.png").convert("RGB"), int)
        ink.append(int((pixels[..., 2] - pixels[..., 0] > 100).sum()))
    assert 0 < ink[1] < ink[0]
