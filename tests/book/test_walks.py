"""Pages that are walked through as a reader does: every file written, every program and every command run, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cnnspec.cli import main
from tests.book.pages import commands, parts, text

Captured = pytest.CaptureFixture[str]
STAYS = ("serve",)  # runs until it is ended


def walk(page: str, *more: str) -> None:
    """Do what a page says in the folder at hand, trainings with these options more."""
    for part in parts(text(page)):
        if part.language == "python":
            exec(compile(part.text, f"guide/{page}.md", "exec"), {})
        named = re.match(r"# (\S+\.yaml)\n", part.text)
        if part.language == "yaml" and named is not None:
            Path(named[1]).write_text(part.text)
        for command in commands(part):
            words = shlex.split(command)[1:]
            if words[0] not in STAYS:
                assert main([*words, *(more if words[0] == "train" else ())]) == 0, command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("capsys")
def test_ten_minutes_with_your_own_pictures(folder: Path) -> None:
    for module in ("PIL", "matplotlib", "jinja2"):
        pytest.importorskip(module, reason="the extra `report` is not here")
    walk("pictures", "--max-epochs", "1")
    assert (folder / "runs/shapes-2").is_dir()
    assert {"seen.png", "shapes.py", "shapes.npz"} <= {path.name for path in folder.iterdir()}
    assert (folder / "runs/shapes/report.html").is_file()


def test_the_line_about_augmentation_holds_without_its_mark(folder: Path, capsys: Captured) -> None:
    pytest.importorskip("PIL", reason="the extra `report` is not here")
    draw = next(part.text for part in parts(text("pictures")) if part.language == "python")
    exec(compile(draw, "draw.py", "exec"), {})
    assert main(["init", "--from-data", "shapes"]) == 0
    written = Path("shapes.yaml").read_text()
    assert "  # augment: [" in written
    Path("shapes.yaml").write_text(written.replace("  # augment: [", "  augment: ["))
    assert main(["validate", "--strict", "shapes.yaml"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_training_and_resuming(folder: Path, capsys: Captured) -> None:
    walk("training")
    assert (folder / "runs/small/best.npz").is_file()
    told = capsys.readouterr()
    assert "stretches the schedule cosine" in told.err + told.out
    listed = text("training").partition("| file | holds |")[2].partition("\n\n")[0]
    for name in re.findall(r"^\| (`.*?`) \|", listed, re.MULTILINE):
        for file in re.findall(r"`([\w-]+\.\w+)`", name):  # a longer training leaves its report
            assert (folder / "runs/small" / file).is_file() or file == "report.html", file
