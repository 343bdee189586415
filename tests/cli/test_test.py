"""`test`: what is validated, smoke-tested and held to gates, and how that is told."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from junitparser import JUnitXml

from cnnspec.cli import main

Captured = pytest.CaptureFixture[str]

GOOD = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - flatten
  - {id: logits, type: dense, units: 10}
data: {source: digits, train: {limit: 256}}
train: {epochs: 2, batch_size: 32, optimizer: {type: adam, learning_rate: 0.01}}
require: {test.accuracy: ">= 0.2"}
"""
UNMET = GOOD.replace("0.2", "1.0")
DEAD = GOOD.replace("units: 10}", "units: 10, trainable: false}")
WRONG = GOOD.replace("flatten", "flaten")
ABSENT = GOOD.replace("input: [1, 8, 8]", "input: [1, 28, 28]").replace("digits", "mnist")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def outcomes(*words: str, capsys: Captured) -> tuple[int, dict[str, dict[str, Any]]]:
    status = main(["test", *words, "--json", "--smoke-seconds", "5", "--threads", "1"])
    specs = json.loads(capsys.readouterr().out)["specs"]
    return status, {Path(spec["file"]).stem: {stage["name"]: stage for stage in spec["stages"]} for spec in specs}


@pytest.mark.slow
def test_every_stage_is_told(capsys: Captured) -> None:
    Path("specs").mkdir()
    for name, text in {"good": GOOD, "unmet": UNMET, "absent": ABSENT}.items():
        Path(f"specs/{name}.yaml").write_text(text)
    status, found = outcomes("--junit", "junit.xml", "--markdown", "comment.md", capsys=capsys)
    assert status == 4
    assert [stage["outcome"] for stage in found["good"].values()] == ["passed", "passed", "passed"]
    assert found["unmet"]["gates"]["outcome"] == "failed"
    assert found["unmet"]["gates"]["message"].startswith("test.accuracy >= 1, got 0.")
    assert found["absent"]["gates"]["outcome"] == "skipped"
    assert "cnnspec data fetch mnist" in found["absent"]["gates"]["message"]
    suites = list(JUnitXml.fromfile("junit.xml"))
    assert sorted((suite.name, suite.tests, suite.failures, suite.skipped) for suite in suites) == [
        ("specs/absent.yaml", 3, 0, 1),
        ("specs/good.yaml", 3, 0, 0),
        ("specs/unmet.yaml", 3, 1, 0),
    ]
    comment = Path("comment.md").read_text()
    assert "| `specs/good.yaml` | 650 | 640 |" in comment
    assert "**`specs/unmet.yaml`: gates failed**" in comment


def test_a_wrong_spec_and_one_that_cannot_learn(capsys: Captured) -> None:
    Path("wrong.yaml").write_text(WRONG)
    assert main(["test", "wrong.yaml"]) == 1
    told = capsys.readouterr().out
    assert "wrong.yaml: validate failed: wrong.yaml:4:5: error[unknown-type]: unknown layer 'flaten'" in told
    assert told.splitlines()[-1] == "1 spec, 1 failed, 0 stages skipped"
    Path("dead.yaml").write_text(DEAD)
    status, found = outcomes("dead.yaml", capsys=capsys)
    assert status in (1, 4)
    assert [stage["outcome"] for stage in found["dead"].values()][-1] == "failed"
    assert main(["test", "none.yaml"]) == 2


@pytest.mark.slow
def test_what_is_cut_short_is_no_verdict(capsys: Captured) -> None:
    Path("unmet.yaml").write_text(UNMET)
    status, found = outcomes("unmet.yaml", "--max-steps", "3", capsys=capsys)
    assert status == 0
    assert found["unmet"]["gates"]["outcome"] == "skipped"
    assert found["unmet"]["gates"]["message"].startswith("cut short after 3 steps at test.accuracy 0.")
    status, found = outcomes("unmet.yaml", "--budget", "0", capsys=capsys)
    assert (status, found["unmet"]["gates"]["message"]) == (0, "no time is left: give more with --budget")


@pytest.mark.slow
def test_a_training_ends_with_the_budget(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever time the smoke test takes here, all of the budget is left for the training."""
    began = time.monotonic()
    monkeypatch.setattr("cnnspec.cli.stages.time", SimpleNamespace(monotonic=lambda: began))
    Path("long.yaml").write_text(UNMET.replace("epochs: 2", "epochs: 100000"))
    status, found = outcomes("long.yaml", "--budget", "4", capsys=capsys)
    assert status == 0
    assert found["long"]["gates"]["message"].startswith("the time ended")


@pytest.mark.slow
def test_against_a_revision(capsys: Captured) -> None:
    Path("same.yaml").write_text(GOOD)
    Path("other.yaml").write_text(GOOD)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    Path("same.yaml").write_text("# a comment is no change\n" + GOOD)
    Path("other.yaml").write_text(GOOD.replace("  - flatten\n", "  - flatten\n  - {type: dense, units: 13}\n"))
    Path("new.yaml").write_text(GOOD)
    status, found = outcomes(".", "--against", "HEAD", "--markdown", "comment.md", capsys=capsys)
    assert (status, set(found)) == (0, {"other", "new"})
    assert "| `other.yaml` | 650 → 985 (+51.5%) | 640 → 962 (+50.3%) |" in Path("comment.md").read_text()
    Path("new.yaml").unlink()
    Path("other.yaml").write_text(GOOD)
    status, found = outcomes(".", "--against", "HEAD", "--markdown", "comment.md", capsys=capsys)
    assert (status, found) == (0, {})
    assert Path("comment.md").read_text() == "No spec differs from `HEAD`.\n"
