"""A count of parameters that is missed is explained by what differs from the last run of the spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspec.cli import main

SPEC = """cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {id: a, type: conv2d, filters: 4, kernel_size: 3}
  - {id: b, type: conv2d, filters: 4, kernel_size: 3, from: a}
  - flatten
  - {type: dense, units: 10}
data: {source: digits, train: {limit: 16}, test: {limit: 16}}
train: {epochs: 1, batch_size: 16}
expect: {params: 838}
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(SPEC)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["validate", "net.yaml"]) == 1
    return [line for line in capsys.readouterr().out.splitlines() if "since runs" in line]


def test_the_layers_that_differ_from_the_last_run_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "net.yaml", "--quiet"]) == 0
    Path("net.yaml").write_text(SPEC.replace("{id: b, type: conv2d, filters: 4", "{id: b, type: conv2d, filters: 5"))
    capsys.readouterr()
    (line,) = told(capsys)
    assert line.endswith("since runs/net, which has 838 parameters: b 148 -> 185, dense_1 650 -> 810")
    Path("runs/net").rename("runs/net-3")
    Path("runs/net-10").mkdir()
    Path("runs/net-10/spec.yaml").write_text(SPEC.replace("- flatten", "- {id: c, type: prelu}\n  - flatten"))
    (line,) = told(capsys)
    assert "since runs/net-10, which has 842 parameters: b 148 -> 185, dense_1 650 -> 810, c removed -4" in line


@pytest.mark.parametrize("text", [SPEC.replace("params: 838", "params: 1"), "no: spec", None])
def test_a_run_that_does_not_differ_or_cannot_be_read_is_not_mentioned(
    text: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.yaml").write_text(SPEC.replace("params: 838", "params: 1"))
    Path("runs/net").mkdir(parents=True)
    if text is not None:
        Path("runs/net/spec.yaml").write_text(text)
    assert told(capsys) == []
