"""The moving averages are what training scores, keeps and hands over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import open_data
from cnnspec.graph import build
from cnnspec.spec import loads
from cnnspec.train import fit
from cnnspec.train.checkpoint import LAST

SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, bias: none}
  - batch_norm
  - relu
  - {type: conv2d, filters: 16, kernel_size: 3, stride: 2, padding: 1, bias: none}
  - batch_norm
  - relu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, preprocess: [{type: normalize, mean: 0.3, std: 0.4}]}
train: {epochs: 2, batch_size: 16, optimizer: {type: sgd, learning_rate: 0.05, momentum: 0.9}, ema: 0.998}
"""


def test_averages_are_as_good_as_what_they_average_after_one_epoch() -> None:
    """90 updates are few beside the memory of 500: without the warm-up it is guessing."""
    spec = loads(SPEC)
    model = Model(spec, build(spec), threads=1)
    assert spec.data is not None
    data = open_data(spec.data, seed=0)
    epoch = next(fit(model, data))
    raw = model.score(data.test)
    assert epoch.test is not None
    assert epoch.test.accuracy is not None
    assert raw.accuracy is not None
    assert epoch.test.accuracy > max(0.9, raw.accuracy - 0.01)


def test_what_is_scored_is_what_a_run_and_a_model_answer_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC)
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "runs")]) == 0
    run = tmp_path / "runs" / "net"
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    spec = loads(SPEC)
    model = Model(spec, build(spec), threads=1)
    assert model.fit()[-1]["test.loss"] == row["test.loss"]
    assert spec.data is not None
    test = open_data(spec.data, seed=0).test
    assert model.score(test).loss == row["test.loss"]
    model.save(tmp_path / "weights.npz")
    for file in (tmp_path / "weights.npz", run / LAST):
        fresh = Model(spec, build(spec), threads=1)
        fresh.load(file)
        assert fresh.score(test).loss == row["test.loss"]
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == row["test.loss"]
