"""What the command line says to what it does not take, and what shells complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cnnspec.cli import VERBS, main

Captured = pytest.CaptureFixture[str]

NET = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - flatten
  - {id: logits, type: dense, units: 10}
data: {source: digits}
train: {epochs: 1, batch_size: 8}
"""


@pytest.fixture(name="spec")
def _spec(tmp_path: Path) -> str:
    (tmp_path / "net.yaml").write_text(NET)
    return str(tmp_path / "net.yaml")


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_a_verb_too(verb: str, capsys: Captured) -> None:
    assert main(["help", verb]) == 0
    said = capsys.readouterr().out
    assert main([verb, "--help"]) == 0
    assert capsys.readouterr().out == said
    assert said.startswith(f"usage: cnnspec {verb}")


def test_help_of_nothing_lists_verbs(capsys: Captured) -> None:
    assert main(["help"]) == 0
    assert all(verb in capsys.readouterr().out for verb in ("validate",))
    assert main(["help", "trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["--epochs", "3"], "train.epochs=3"),
        (["--lr=0.5"], "train.optimizer.learning_rate=0.5"),
        (["--learning-rate", "0.5"], "train.optimizer.learning_rate=0.5"),
        (["--batch-size", "4"], "train.batch_size=4"),
        (["--seed", "4"], "seed=4"),
        (["--optimizer", "adam"], "train.optimizer=adam"),
    ],
)
def test_a_setting_of_the_spec_as_a_flag(words: list[str], path: str, spec: str, capsys: Captured) -> None:
    for order in ([spec, *words], [*words, spec]):
        assert main(["smoke", *order]) == 2
        assert f"help: the spec says it: change it with --set {path}\n" in capsys.readouterr().err
    assert main(["validate", spec, "--set", path]) == 0, "the advice works"


@pytest.mark.parametrize(
    ("setting", "right"),
    [
        ("epochs=3", "train.epochs=3"),
        ("lr=0.5", "train.optimizer.learning_rate=0.5"),
        ("batch-size=4", "train.batch_size=4"),
    ],
)
def test_a_setting_without_its_section(setting: str, right: str, spec: str, capsys: Captured) -> None:
    assert main(["validate", spec, "--set", setting]) == 1
    assert f"help: write --set {right}\n" in capsys.readouterr().out
    assert main(["validate", spec, "--set", right]) == 0, "the advice works"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--outt", "x"], "did you mean --out?"),
        (["train", "--gpu"], "cnnspec computes on processors; --threads says on how many"),
        (["validate", "--formt", "json"], "did you mean --format?"),
        (["train", "--whatever"], "see cnnspec train --help"),
    ],
)
def test_other_flags(words: list[str], said: str, spec: str, capsys: Captured) -> None:
    assert main([words[0], spec, *words[1:]]) == 2
    assert f"help: {said}\n" in capsys.readouterr().err


def completed_by_bash(script: Path, words: list[str]) -> list[str]:
    program = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _cnnspec; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", program, "bash", *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path, capsys: Captured) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    for words, expected in (
        (["cnnspec", "va"], {"validate"}),
        (["cnnspec", ""], {*VERBS, "help"}),
        (["cnnspec", "help", "va"], {"validate"}),
        (["cnnspec", "validate", "--for"], {"--format", "--force-exclude"}),
        (["cnnspec", "validate", "--format", "j"], {"json", "jsonl", "junit"}),
        (["cnnspec", "completion", ""], {"bash", "zsh", "fish"}),
        (["cnnspec", "train", "spe"], set()),
    ):
        assert set(completed_by_bash(tmp_path / "script", words)) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes(tmp_path: Path, capsys: Captured) -> None:
    assert main(["completion", "fish"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    for typed, expected in (("cnnspec va", "validate"), ("cnnspec validate --stri", "--strict")):
        command = ["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C '{typed}'"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert expected in done.stdout


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_reads_the_script(tmp_path: Path, capsys: Captured) -> None:
    assert main(["completion", "zsh"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    command = ["zsh", "-f", "-c", f"autoload -U compinit && compinit -D -u; source {tmp_path}/script && echo read"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)})
    assert done.stdout == "read\n"
