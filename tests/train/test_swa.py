"""Stochastic weight averaging: the mean of what epochs end with, and statistics measured for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import open_data
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.spec import loads
from cnnspec.train import fit
from cnnspec.train.checkpoint import LAST, read_checkpoint
from cnnspec.train.diagnose import values
from cnnspec.train.run import Run
from tests.samples import sampled

SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: same, bias: none}
  - {type: batch_norm, momentum: 0.8}
  - relu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, augment: [{type: shift, pixels: 1}], train: {limit: 256}}
train: {epochs: 5, batch_size: 256, optimizer: {type: momentum, learning_rate: 0.2}, swa: {after: 2}}
"""


def model() -> Model:
    spec = loads(SPEC)
    return Model(spec, build(spec), threads=2, dtype="float64")


def test_the_mean_of_epochs_is_what_is_scored() -> None:
    net = model()
    assert net.spec.data is not None
    data = open_data(net.spec.data, seed=0)
    seen: list[dict[str, Array]] = []
    for epoch in fit(net, data):
        if epoch.epoch > 2:
            seen.append({name: array.copy() for name, array in net.weights.params.items()})
        raw = {name: array.copy() for name, array in net.weights.arrays()}
        with net.averaged():
            for name, array in net.weights.params.items():
                expected = np.mean([one[name] for one in seen], axis=0) if seen else raw[name]
                np.testing.assert_allclose(array, expected, rtol=1e-12)
            assert epoch.test is not None
            assert net.score(data.test).loss == epoch.test.loss
        assert all((array == raw[name]).all() for name, array in net.weights.arrays())
    assert len(seen) == 3
    # One batch is all the training images: their mean and variance in front of the layer, with Bessel's correction.
    with net.averaged():
        (x,) = next(inputs for node, inputs, _ in values(net, data.train.pixels[:]) if node.name == "batch_norm_1")
        channels = x.transpose(1, 0, 2, 3).reshape(6, -1)
        np.testing.assert_allclose(net.weights.state["batch_norm_1.running_mean"], channels.mean(1), rtol=1e-6)
        np.testing.assert_allclose(
            net.weights.state["batch_norm_1.running_variance"], channels.var(1, ddof=1), rtol=1e-6
        )


@pytest.mark.parametrize("steps", sampled([12, 11, 13], 3))
def test_a_training_goes_on_within_the_mean(steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC.replace("batch_size: 256", "batch_size: 64").replace("epochs: 5", "epochs: 4"))
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "whole")]) == 0
    words = ["--max-steps", str(steps), "--threads", "1"]
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "cut"), *words]) == 0
    assert main(["train", "--resume", str(tmp_path / "cut" / "net"), "--quiet"]) == 0
    whole, cut = (read_checkpoint(tmp_path / name / "net" / LAST) for name in ("whole", "cut"))
    kept = [{name: array.tobytes() for name, array in {**one.network, **one.slots}.items()} for one in (whole, cut)]
    assert kept[0] == kept[1]
    for name in ("whole", "cut"):
        assert main(["verify", str(tmp_path / name / "net"), "--all"]) == 0
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "whole" / "net")]) == 0
    loss = float(capsys.readouterr().out.split("loss ")[1].split(",")[0])
    assert loss == pytest.approx(Run.existing(tmp_path / "whole" / "net").rows(whole)[-1]["test.loss"], abs=1e-4)
