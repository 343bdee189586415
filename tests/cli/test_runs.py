"""`verify` repeats a run to the bit or says what differs; `runs` lists and compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.train.records import about_text, read_about

SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: digits, augment: [{type: shift, pixels: 1}]}
train: {epochs: 3, optimizer: {type: sgd, learning_rate: 0.05}}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "net.yaml").write_text(SPEC)
    words = ["train", str(tmp_path / "net.yaml"), "--quiet", "--out", str(tmp_path / "runs")]
    assert main(words) == 0
    assert main([*words, "--set", "seed=1", "--set", "train.epochs=2"]) == 0
    return tmp_path / "runs" / "net"


def test_a_run_is_repeated_to_the_bit(run: Path, capsys: Captured) -> None:
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == "the same bits: 20 steps\n"
    assert main(["verify", str(run), "--all", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"steps": 69, "epochs": 3, "difference": None, "versions": {}}
    assert main(["verify", str(run), "--steps", "5"]) == 0
    assert capsys.readouterr().out == "the same bits: 5 steps\n"


def test_no_more_steps_are_compared_than_were_trained(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "net.yaml").write_text(SPEC)
    assert main(["train", str(tmp_path / "net.yaml"), "--quiet", "--out", str(tmp_path), "--max-steps", "3"]) == 0
    words: list[str]
    for words in ([], ["--all"]):
        assert main(["verify", str(tmp_path / "net"), *words]) == 0
        assert capsys.readouterr().out == "the same bits: 3 steps\n"


def test_what_differs_is_told(run: Path, capsys: Captured) -> None:
    about = read_about(run / "run.json")
    about["trace"]["7"] = (1.5).hex()
    about["versions"]["numpy"] = "1.0"
    (run / "run.json").write_text(about_text(about))
    assert main(["verify", str(run)]) == 4
    error = capsys.readouterr().err
    assert "loss of step 7: expected 1.5, got " in error
    assert "note: numpy was 1.0, is " in error
    about["trace"] = {}
    (run / "run.json").write_text(about_text(about))
    assert main(["verify", str(run)]) == 4
    assert "has no trace of its first steps" in capsys.readouterr().err


def test_weights_of_an_epoch_that_differ(run: Path, capsys: Captured) -> None:
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["weights"] = "0" * 16
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["verify", str(run), "--all"]) == 4
    assert "metrics.jsonl says otherwise of epoch 2 than epochs.jsonl" in capsys.readouterr().err


def test_runs_are_listed_and_compared(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["runs", "list", str(run.parent), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [(Path(entry["run"]).name, entry["seed"], entry["epochs"]) for entry in listed] == [
        ("net", 0, 3),
        ("net-2", 1, 2),
    ]
    picture = tmp_path / "curves.png"
    assert main(["runs", "compare", str(run), str(run.with_name("net-2")), "-o", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "best train.loss" in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["runs", "list", str(tmp_path / "none")]) == 4
    assert "no folder" in capsys.readouterr().err
    assert main(["runs", "compare", str(tmp_path)]) == 4
    assert "is no run directory" in capsys.readouterr().err


def test_a_list_fits_the_terminal_and_shows_more_in_a_wider_one(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = read_about(run / "run.json")
    del about["results"]
    (run / "run.json").write_text(about_text({**about, "stopped": "interrupted by SIGTERM"}))
    shown = {}
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["runs", "list", str(run.parent)]) == 0
        shown[columns] = capsys.readouterr().out
        assert max(map(len, shown[columns].splitlines())) <= int(columns)
        assert shown[columns].splitlines()[-1] == "net: not finished: interrupted by SIGTERM"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (line,) = (line for line in shown["200"].splitlines() if line.startswith("net "))
    words = line.split()
    assert words[1] == "3"
    assert f"{min(row['train.loss'] for row in rows):.4f}" in words
    assert f"{max(row['test.accuracy'] for row in rows):.2%}" in words
    assert rows[-1]["weights"] == words[-1] not in shown["80"]
    (curve,) = (word for word in words if set(word) <= set("▁▂▃▄▅▆▇█"))
    assert (len(curve), curve[0], curve[-1]) == (3, "█", "▁")


def test_a_folder_of_runs_is_no_run_and_names_those_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("best", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.yaml").touch()
    for verb in ("eval", "report", "verify"):
        assert main([verb, str(tmp_path)]) == 4
        error = capsys.readouterr().err
        assert f"{tmp_path} is no run directory: it has no spec.yaml" in error
        assert "help: name a run in it: best, other" in error


@pytest.mark.parametrize("seconds", ["Infinity", "NaN", "1e300"])
def test_a_time_that_is_no_number_is_listed(run: Path, capsys: Captured, seconds: str) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[0]["seconds"] = float(seconds)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (["runs", "list", str(run.parent)], ["runs", "compare", str(run)], ["report", str(run)]):
        assert main(words) == 0, capsys.readouterr().err
