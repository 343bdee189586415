"""What `train` prints: lines of 80 columns, what the figures are, what came of it and what can be done next."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnnspec.cli import main, report
from cnnspec.cli.eval import confusion_table
from cnnspec.cli.training_output import confused, wrapped
from cnnspec.train.score import Score

SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: digits, validation: {fraction: 0.1}, train: {limit: 200}}
train: {epochs: 2}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec, which is the working directory."""
    (tmp_path / "net.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lines_fit_and_say_what_their_figures_are(folder: Path, capsys: Captured) -> None:
    assert main(["train", "net.yaml", "--threads", "1"]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert max(map(len, [*lines, *printed.out.splitlines()])) <= 80
    assert " ".join(line.strip() for line in lines).startswith(
        "net: one class an image; 650 parameters; 200 training images, 144 validation, 360 test, 10 classes; "
    )
    assert "  * is the best so far (best.npz): highest validation accuracy" in lines
    assert lines[-2].startswith("epoch 2/2  train ") or lines[-1].startswith("epoch 2/2  train ")
    *_, next_line, last = printed.out.splitlines()
    assert (next_line, last) == ("next: cnnspec serve runs/net", "      cnnspec predict runs/net PICTURES")
    assert "for a report: cnnspec report runs/net" in printed.out
    assert "\x1b" not in printed.out + printed.err


def test_a_long_training_leaves_a_report(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(report, "WORTH", 1.0)
    monkeypatch.setattr(report, "profile", lambda *_, **__: SimpleNamespace(rows=()))  # times are never the same
    assert main(["train", "net.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run"] == "runs/net"
    written = (folder / "runs/net/report.html").read_text(encoding="utf-8")
    assert main(["report", "runs/net", "-o", "again.html"]) == 0
    assert (folder / "again.html").read_text(encoding="utf-8") == written
    assert main(["train", "net.yaml"]) == 0
    assert "report, which is written last: runs/net-2/report.html" in capsys.readouterr().out
    assert (folder / "runs/net-2/report.html").is_file()


def test_a_report_that_fails_fails_no_training(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")

    def fail(*arguments: object) -> str:
        raise ValueError("no page")

    monkeypatch.setattr(report, "WORTH", 1.0)
    monkeypatch.setattr(report, "run_page", fail)
    assert main(["train", "net.yaml"]) == 0
    printed = capsys.readouterr()
    assert "report.html could not be written: ValueError: no page" in printed.err
    assert "help: for a report: cnnspec report runs/net" in printed.err
    assert "run directory runs/net" in printed.out


def test_a_missing_extra_is_said_once(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    assert main(["train", "net.yaml"]) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("pip install 'cnnspec[report]'") == 1


def test_parts_are_never_broken() -> None:
    assert list(wrapped(["a" * 30, "b" * 30, "c" * 30], "; ")) == ["a" * 30 + "; " + "b" * 30 + ";", "  " + "c" * 30]
    assert list(wrapped(["a" * 100], "; ")) == ["a" * 100]


def test_the_worst_confusion() -> None:
    matrix = np.array([[5, 2, 0], [0, 9, 0], [3, 0, 1]])
    score = Score(0.5, 20, 0.75, kind="class", confusion=matrix)
    assert confused(score, ("ant", "bee")) == "2 taken for ant, 3 of 4"
    assert confused(Score(0.5, 20, 1.0, kind="class", confusion=np.eye(3, dtype=np.int64)), ()) == ""
    assert confused(None, ()) == ""


def test_eval_tells_the_class_that_is_told_worst_and_its_matrix_fits(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", "net.yaml", "--quiet"]) == 0
    assert main(["eval", "runs/net", "--json"]) == 0
    confusion = np.array(json.loads(capsys.readouterr().out)["confusion"])
    recall = np.diagonal(confusion) / confusion.sum(axis=1)
    assert main(["eval", "runs/net", "--confusion"]) == 0
    wide = capsys.readouterr().out
    assert f"the least {recall.min():.2%} of {recall.argmin()}" in wide
    (blocks,) = re.findall("[▁▂▃▄▅▆▇█]+", wide)
    assert ["▁▂▃▄▅▆▇█".index(block) for block in blocks] == np.round(7 * recall).astype(int).tolist()
    names = [f"a class with a name of some length {number}" for number in range(10)]
    table = confusion_table(confusion, names, 80)
    assert [column.header for column in table.columns] == ["", *map(str, range(10))]
    assert list(table.columns[0].cells) == [f"{number} {name}" for number, name in enumerate(names)]
