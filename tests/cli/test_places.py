"""Paths in a spec start from its file, and a run finds its data from anywhere, also after a move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnspec import compile
from cnnspec.cli import main

SPEC = """
cnnspec: 1
name: n
input: [1, 4, 4]
layers: [flatten, {type: dense, units: 2}]
data: {source: npz, root: own/data}
train: {epochs: 1, batch_size: 5}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (project / "own" / "data").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4)).astype(np.uint8)
    np.savez(project / "own" / "data" / "train.npz", x=pixels, y=np.arange(20) % 2)
    (project / "spec.yaml").write_text(SPEC)
    return project


def works(*arguments: object) -> bool:
    return main([*map(str, arguments), "--threads", "1"]) == 0


def test_data_lies_beside_the_spec_wherever_the_shell_stands(project: Path) -> None:
    assert works("train", project / "spec.yaml", "--out", "runs")
    assert works("eval", "runs/n")
    assert works("verify", "runs/n")
    assert works("train", "--resume", "runs/n", "--set", "train.epochs=2")
    assert works("train", "runs/n/spec.yaml", "--out", "again")
    assert main(["data", "verify", str(project / "spec.yaml")]) == 0
    model = compile(project / "spec.yaml", threads=1)
    assert len(model.fit()) == 1


def test_a_run_finds_its_data_after_a_move(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works("train", project / "spec.yaml", "--out", project / "runs")
    about = json.loads((project / "runs" / "n" / "run.json").read_text())
    assert about["folder_from_run"] == "../../own/data"
    assert about["folder"] == str((project / "own" / "data").resolve())
    shutil.move(project / "runs" / "n", tmp_path / "far")  # away from its data
    assert works("eval", tmp_path / "far")
    shutil.move(tmp_path / "far", project / "runs" / "n")
    shutil.move(project, tmp_path / "moved")  # with its data
    monkeypatch.chdir("/")
    assert works("eval", tmp_path / "moved" / "runs" / "n")
    assert works("verify", tmp_path / "moved" / "runs" / "n")
    assert works("train", "--resume", tmp_path / "moved" / "runs" / "n", "--set", "train.epochs=2")


def test_data_named_on_the_command_line_is_relative_to_the_shell(project: Path, tmp_path: Path) -> None:
    (project / "own" / "data").rename(tmp_path / "elsewhere" / "other")
    assert not works("train", project / "spec.yaml")
    assert works("train", project / "spec.yaml", "--data", "other", "--out", project / "runs")
    assert works("eval", project / "runs" / "n")


def test_a_link_to_a_spec_is_the_spec_that_it_shows(project: Path) -> None:
    Path("link.yaml").symlink_to(project / "spec.yaml")
    assert works("train", "link.yaml", "--out", "runs")


def test_a_spec_without_root_reads_beside_itself(project: Path) -> None:
    spec = project / "own" / "data" / "spec.yaml"
    spec.write_text(SPEC.replace(", root: own/data", ""))
    assert works("train", spec, "--out", "runs")
    assert works("eval", "runs/n")


def test_what_a_spec_extends_has_places_of_its_own(project: Path) -> None:
    (project / "own" / "base.yaml").write_text(SPEC.replace("own/data", "data"))
    (project / "more.yaml").write_text("cnnspec: 1\nextends: own/base.yaml\nname: more\n")
    assert works("train", project / "more.yaml", "--out", "runs")
