"""The profile of a plan: every layer in every direction, and a sum that explains the step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnspec.cli import main
from cnnspec.compare.profile import Profile, Row, names_in, profile
from cnnspec.graph import build
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.spec import load, loads

Captured = pytest.CaptureFixture[str]

SPEC = """\
cnnspec: 1
input: [2, 12, 12]
layers:
  - {id: c, type: conv2d, filters: 8, kernel_size: 3, bias: none}
  - batch_norm
  - relu
  - {id: p, type: max_pool2d, kernel_size: 2}
  - flatten
  - {id: logits, type: dense, units: 10}
train: {epochs: 1, batch_size: 48}
"""


def measured(mode: str = "train", threads: int = 1) -> Profile:
    spec = loads(SPEC)
    assert spec.train is not None
    return profile(
        build(spec),
        48,
        "train" if mode == "train" else "infer",
        loss=spec.train.loss,
        optimizer=spec.train.optimizer,
        threads=threads,
        seconds=0.2,
    )


def test_rows_are_all_that_a_step_does() -> None:
    found = measured()
    rows = [(row.layer, row.direction) for row in found.rows if row.direction != "prepare"]
    trained = [("c", "forward"), ("c", "weight"), ("logits", "forward"), ("logits", "input"), ("logits", "weight")]
    assert set(trained) | {("batch_norm_1", "input"), ("loss", "loss"), ("p", "input")} <= set(rows)
    assert ("c", "input") not in rows  # nobody wants the images' gradient


def test_the_sum_explains_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of this thread's processor time, of which other programs take nothing."""
    clock = SimpleNamespace(perf_counter=time.thread_time, perf_counter_ns=time.thread_time_ns)
    monkeypatch.setattr("cnnspec.compare.profile.time", clock)
    found = measured()
    assert 0 < found.update < found.timed
    assert sum(row.seconds for row in found.rows) + found.update + found.rest == pytest.approx(found.timed)
    assert found.rest < found.timed / 2
    assert 0 < found.step < 2 * found.timed
    assert found.rate == 2 * sum(row.macs for row in found.rows) / found.step


def test_work_is_that_of_the_whole_batch() -> None:
    rows = {(row.layer, row.direction): row for row in measured("infer", threads=2).rows}
    convolution = rows["batch_norm_1", "forward"]  # folded into the convolution before it
    assert convolution.type == "conv2d+batch_norm"
    assert convolution.macs == 48 * 8 * 2 * 9 * 100
    assert convolution.bytes >= 4 * 48 * (2 * 144 + 8 * 100)
    assert convolution.kernel
    assert convolution.predicted


@pytest.mark.parametrize("batch", [5, 40])
def test_work_is_counted_once_however_a_batch_is_shared(batch: int) -> None:
    spec = load(Path(__file__).parents[2] / "specs" / "lenet.yaml")
    graph = build(spec)
    assert spec.train is not None
    found = profile(graph, batch, "train", loss=spec.train.loss, optimizer=spec.train.optimizer, threads=2, seconds=0.1)
    work = {node.name: node.macs * batch for node in graph.nodes}
    rows = [row for row in found.rows if row.direction in ("forward", "input", "weight") and work[row.layer]]
    directions = [(name, direction) for name in work if work[name] for direction in ("forward", "input", "weight")]
    assert {(row.layer, row.direction) for row in rows} == {*directions} - {("conv2d_1", "input")}
    assert all(row.macs == work[row.layer] for row in rows)


def test_the_verb(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPEC)
    assert main(["bench", "s.yaml", "--batch", "8", "--threads", "1", "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch"] == 8
    assert found["peak_flops"] > 0
    assert found["share_of_peak"] == pytest.approx(found["flops"] / found["peak_flops"])
    assert {layer["direction"] for layer in found["layers"]} >= {"forward", "input", "weight", "loss"}
    assert main(["bench", "s.yaml", "--inference", "--seconds", "1"]) == 0
    assert "images/s" in capsys.readouterr().out


def test_training_needs_a_train_section(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPEC.rpartition("train:")[0])
    assert main(["bench", "s.yaml"]) == 4
    assert "no train section" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["unet-shapes", "two-classes", "disc"])
def test_networks_with_other_targets_than_a_class_are_timed(spec: str) -> None:
    loaded = load(Path(__file__).parents[2] / "specs" / f"{spec}.yaml")
    assert loaded.train is not None
    loss, optimizer = loaded.train.loss, loaded.train.optimizer
    found = profile(build(loaded), 4, "train", loss=loss, optimizer=optimizer, seconds=0.01)
    assert "loss" in {row.direction for row in found.rows}


def test_rows_have_the_names_and_types_of_the_spec() -> None:
    spec = load(Path(__file__).parents[2] / "specs" / "lenet.yaml")
    graph = build(spec)
    types = {node.name: node.layer.type_name for node in graph.nodes}
    optimised = optimise(graph, PASSES["train"])
    names = names_in(graph, optimised)
    single = [node for node in optimised.nodes if "+" not in node.layer.type_name]  # not made of several layers
    assert {names[node.name]: node.layer.type_name for node in single}.items() <= types.items()
    of_single = [names[node.name] for node in single]
    assert {"relu_1", "relu_2", "relu_3", "max_pool2d_2"} <= {*of_single}  # a pass swaps them with their neighbours
    assert len({*of_single}) == len(single)


@pytest.mark.parametrize(
    ("saves", "told"),
    [(True, "above 100%: dft, with fewer multiplications"), (False, "above 100% elsewhere: other programs")],
)
def test_a_layer_above_the_peak_says_why(
    saves: bool, told: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("c", "conv2d", "forward", 1e-3, 10**9, 1, "dft", 1e-3, saves)
    found = Profile("infer", 8, 1, 1e12, (row,), 2e-3, 2e-3, 0.0, 9)
    monkeypatch.setattr("cnnspec.cli.bench.profile", lambda *_, **__: found)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPEC)
    assert main(["bench", "s.yaml", "--inference"]) == 0
    assert told in capsys.readouterr().out
