"""A training of thousands of epochs: what it keeps in memory for each of them."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.train import Epoch
from cnnspec.train.network import Network
from cnnspec.train.run import METRICS_JSONL, Run

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
