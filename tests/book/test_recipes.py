"""The recipes of the guide for GitHub, GitLab and pre-commit: well-formed, and each command does what the page says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import cnnspec
from cnnspec.cli import main, parsers
from tests.book.pages import parts, text

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
SPEC = """\
cnnspec: 1
input: [1, 8, 8]
layers: [flatten, {id: logits, type: dense, units: 10}]
data: {source: digits, train: {limit: 256}}
train: {epochs: 2, batch_size: 32, optimizer: {type: adam, learning_rate: 0.01}}
require: {test.accuracy: ">= 0.2"}
"""
WRONG = SPEC.replace("flatten", "flaten")
WARNS = "vars: {spare: 1}\n" + SPEC
FOREIGN = "services: {web: {image: x}}\n"


def recipe(heading: str) -> list[Any]:
    """What the blocks under a heading of the page say."""
    section = text("ci").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [yaml.safe_load(part.text) for part in parts(section)]


def github() -> Iterator[str]:
    return (step["run"] for steps in recipe("GitHub Actions") for step in steps if "run" in step)


def gitlab() -> dict[str, Any]:
    (jobs,) = recipe("GitLab")
    job: dict[str, Any] = jobs["specs"]
    return job


def call(command: str, *more: str) -> int:
    """Run a command of a recipe."""
    return main([*shlex.split(command)[1:], *more])


def the(commands: Iterator[str], words: str) -> str:
    """The command that has these words in it."""
    (found,) = (command for command in commands if words in command)
    return found


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with specs beside other YAML."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "nets").mkdir()
    (tmp_path / "compose.yaml").write_text(FOREIGN)
    (tmp_path / "nets/a.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_recipes_call_what_there_is() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (config,) = recipe("pre-commit")
    (repo,) = config["repos"]
    assert {hook["id"] for hook in repo["hooks"]} <= {hook["id"] for hook in hooks}
    assert repo["rev"] == f"v{cnnspec.__version__}"
    called = [*github(), gitlab()["before_script"], gitlab()["script"], *(f"{hook['entry']} a.yaml" for hook in hooks)]
    for command in called:
        program, *words = shlex.split(command)
        if program == "cnnspec":
            parsers({words[0]})[0].parse_args(words)  # ends where an option is unknown
        else:
            assert re.fullmatch(r"python -m pip install git\+https://\S+", command)


def test_github_shows_findings_beside_their_lines(capsys: Captured) -> None:
    command = the(github(), "--format github")
    assert call(command) == 0
    assert "::" not in capsys.readouterr().out
    Path("nets/b.yaml").write_text(WRONG)
    assert call(command) == 1
    assert capsys.readouterr().out.startswith("::error file=nets/b.yaml,line=3,")
    Path("nets/b.yaml").write_text(WARNS)
    assert call(command) == 1
    assert capsys.readouterr().out.startswith("::warning file=nets/b.yaml,line=1,")


def test_the_security_tab_gets_its_file() -> None:
    command = the(github(), "--format sarif")
    Path("nets/b.yaml").write_text(WRONG)
    assert call(command) == 1
    (run,) = json.loads(Path("cnnspec.sarif").read_text())["runs"]
    (found,) = run["results"]
    assert found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "nets/b.yaml"
    Path("nets/b.yaml").unlink()
    assert call(command) == 0
    assert json.loads(Path("cnnspec.sarif").read_text())["runs"][0]["results"] == []


def test_gitlab_gets_the_report_that_its_job_names() -> None:
    report = Path(gitlab()["artifacts"]["reports"]["codequality"])
    assert call(gitlab()["script"]) == 0
    assert json.loads(report.read_text()) == []
    Path("nets/b.yaml").write_text(WRONG)
    assert call(gitlab()["script"]) == 1
    (found,) = json.loads(report.read_text())
    assert found["location"]["path"] == "nets/b.yaml"
    assert gitlab()["artifacts"]["when"] == "always", "the job has failed where there is something to see"


def test_the_hook_passes_over_other_yaml(capsys: Captured) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert call(hook["entry"], "compose.yaml", "nets/a.yaml") == 0
    Path("nets/b.yaml").write_text(WRONG)
    assert call(hook["entry"], "compose.yaml", "nets/a.yaml", "nets/b.yaml") == 1
    assert "nets/b.yaml:3:10: error[unknown-type]" in capsys.readouterr().out


@pytest.mark.slow
def test_a_pull_request_is_told_what_it_does(repository: Path) -> None:
    command = the(github(), "cnnspec test")
    (repository / ".git").rmdir()
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-q", "-m", "first"],
        ["update-ref", "refs/remotes/origin/main", "HEAD"],
    ):
        subprocess.run(["git", *words], check=True)
    assert call(command) == 0
    assert Path("comment.md").read_text() == "No spec differs from `origin/main`.\n"
    Path("nets/a.yaml").write_text(SPEC.replace("flatten", "flatten, {type: dense, units: 13}"))
    assert call(command) == 0
    assert "| `nets/a.yaml` | 650 → 985 (+51.5%) |" in Path("comment.md").read_text()
    assert "nets/a.yaml" in Path("junit.xml").read_text()
    Path("nets/a.yaml").write_text(SPEC.replace("0.2", "1.0"))
    assert call(command) == 4
    assert "**`nets/a.yaml`: gates failed**" in Path("comment.md").read_text()
