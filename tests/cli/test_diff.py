"""`diff`: layers added, removed, changed, and what that costs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cnnspec.cli import main

Captured = pytest.CaptureFixture[str]

BEFORE = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {id: c, type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - flatten
  - {id: logits, type: dense, units: 10}
train: {epochs: 1, batch_size: 8}
"""
AFTER = BEFORE.replace("filters: 4", "filters: 6").replace("  - relu\n", "  - batch_norm\n")


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "a.yaml").write_text(BEFORE)
    (tmp_path / "b.yaml").write_text(AFTER)
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_text(files: tuple[str, str], capsys: Captured) -> None:
    assert main(["diff", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "changed c: filters 4 -> 6; output 4x6x6 -> 6x6x6  +20 parameters  +648 MACs",
        "added   batch_norm_1: batch_norm  +12 parameters",
        "changed flatten_1: from relu_1 -> batch_norm_1; output 144 -> 216",
        "changed logits: input 144 -> 216  +720 parameters  +720 MACs",
        "removed relu_1: relu",
    ]
    assert "parameters: 1,490 -> 2,242 (+752)" in lines


def test_markdown_and_exit_code(files: tuple[str, str], capsys: Captured) -> None:
    assert main(["diff", *files, "--markdown", "--exit-code"]) == 1
    assert "| changed | `c` | `filters 4 -> 6; output 4x6x6 -> 6x6x6` | +20 | +648 |" in capsys.readouterr().out
    assert main(["diff", files[0], files[0], "--exit-code"]) == 0
    assert "parameters: 1,490 -> 1,490 (the same)" in capsys.readouterr().out


FORGED = "\\e[31m | `x` [a](http://b) @all <img>\\n::error::forged"


def test_values_forge_no_lines_cells_or_commands(files: tuple[str, str], capsys: Captured) -> None:
    Path(files[1]).write_text(f'{BEFORE}data: {{source: {{type: image_folder, train: "{FORGED}"}}}}\n')
    assert main(["diff", *files]) == 0
    told = capsys.readouterr().out
    assert "\\x1b[31m | `x` [a](http://b) @all <img>\\n\\x3a:error::forged" in told
    assert main(["diff", *files, "--markdown"]) == 0
    marked = capsys.readouterr().out
    assert "| `\\x1b[31m \\| 'x' [a](http://b) @all <img>\\n::error::forged` |  |  |\n" in marked
    for text in (told, marked):
        assert "\x1b" not in text
        assert "\n::" not in text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("train.optimizer.learning_rate=0.5", "changed train.optimizer.learning_rate: 0.01 -> 0.5"),
        ("seed=7", "changed seed: 0 -> 7"),
        ("train.batch_size=4", "changed train.batch_size: 8 -> 4"),
        ("train.optimizer=adam", "changed train.optimizer.type: sgd -> adam"),
        ("expect={params: 1490}", "added   expect.params: 1490"),
        ("require={test.accuracy: '>= 0.5'}", "added   require.test.accuracy: >= 0.5"),
        ("layers.0.trainable=false", "changed c: trainable true -> false"),
        ("layers.0.weight_decay=0.5", "changed c: weight_decay none -> 0.5"),
    ],
)
def test_what_is_no_layer(files: tuple[str, str], change: str, line: str, tmp_path: Path, capsys: Captured) -> None:
    before = BEFORE + "data: {source: digits}\n"
    Path(files[0]).write_text(before)
    assert main(["render", files[0], "--set", change]) == 0
    Path(files[1]).write_text(capsys.readouterr().out)
    assert main(["diff", *files, "--exit-code"]) == 1
    assert line in capsys.readouterr().out.splitlines()


def test_against_a_revision(files: tuple[str, str], capsys: Captured) -> None:
    folder = str(Path(files[0]).parent)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    Path(files[0]).write_text(AFTER)
    assert main(["diff", "--git", "HEAD", files[0], "--exit-code"]) == 1
    assert "filters 4 -> 6" in capsys.readouterr().out
    assert main(["diff", "--git", "nowhere", files[0]]) == 4
    assert "git cannot show" in capsys.readouterr().err


def test_a_revision_has_the_base_of_its_time(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "base.yaml").write_text(BEFORE)
    (tmp_path / "net.yaml").write_text("extends: base.yaml\nname: net\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "base.yaml").write_text(AFTER)
    assert main(["diff", "--git", "HEAD", str(tmp_path / "net.yaml"), "--exit-code"]) == 1
    assert "filters 4 -> 6" in capsys.readouterr().out


def test_a_revision_has_links_within_its_folder_alone(tmp_path: Path, capsys: Captured) -> None:
    outside, folder = tmp_path / "outside.yaml", tmp_path / "specs"
    (folder / "nets").mkdir(parents=True)
    outside.write_text(BEFORE)
    (folder / "nets" / "real.yaml").write_text(BEFORE)
    (folder / "link.yaml").symlink_to("nets/real.yaml")
    (folder / "escaped.yaml").symlink_to(outside)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    for name in ("link.yaml", "escaped.yaml"):
        (folder / name).unlink()
        (folder / name).write_text(AFTER)
    assert main(["diff", "--git", "HEAD", str(folder / "link.yaml"), "--exit-code"]) == 1
    assert "filters 4 -> 6" in capsys.readouterr().out
    assert main(["diff", "--git", "HEAD", str(folder / "escaped.yaml")]) == 4
    assert "git cannot show" in capsys.readouterr().err


def test_a_wrong_revision_is_told_as_such(files: tuple[str, str], capsys: Captured) -> None:
    folder = Path(files[0]).parent
    Path(files[0]).write_text(BEFORE.replace("units", "unitz"))
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    Path(files[0]).write_text(BEFORE)
    assert main(["diff", "--git", "HEAD", files[0]]) == 1
    assert capsys.readouterr().out.startswith(f"HEAD:{files[0]}:7:31: error[unknown-key]")
