"""`sweep`: the same table for any number of workers and any interruption, failures, and what is left behind."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from cnnspec.cli import main
from cnnspec.cli.sweep import _SweepVerb
from cnnspec.cli.trainings import Program, Running, outcome_of
from cnnspec.diagnostics import RunError
from cnnspec.spec import load
from cnnspec.sweep.journal import Outcome, Task

NET = """
cnnspec: 1
name: net
seed: 3
input: [1, 8, 8]
layers: [flatten, {id: out, type: dense, units: 10}]
data: {source: digits, train: {limit: 100}, validation: {fraction: 0.3}}
train: {epochs: 2, batch_size: 35, optimizer: {type: sgd, learning_rate: 0.2}}
require: {test.loss: "< 100"}
"""
GRID = """
sweep:
  values: {train.optimizer.learning_rate: [0.01, 1.0e+39, 0.3]}
  method: grid
"""
MANY = """
sweep:
  values:
    train.optimizer.learning_rate: {from: 0.01, to: 1, scale: log}
    train.batch_size: {from: 16, to: 35, integer: true}
    train.optimizer.momentum: [0, 0.9]
  trials: 24
  generation: 8
  halving: {first: 1, factor: 4}
  metric: validation.accuracy
"""


# The sweep sends itself the signal as it opens its journal to add a training to so many: the same moment however fast
# the machine is. Where the tests run in the background of a shell, SIGINT is ignored, and a child would inherit that.
SWEEP = """
import os, signal, sys
from pathlib import Path
from cnnspec.cli import main

number, trainings, *words = sys.argv[1:]

def audit(event, arguments):
    if event == "open" and arguments[1] == "a" and str(arguments[0]).endswith("journal.jsonl"):
        path = Path(arguments[0])
        if path.exists() and path.read_bytes().count(b"\\n") == 1 + int(trainings):
            os.kill(os.getpid(), int(number))

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(audit)
sys.exit(main(words))
"""


def program(spec: Path, out: Path, jobs: int, *more: str, number: int = 0, trainings: int = 0) -> subprocess.Popen[str]:
    """A sweep in a session of its own, as in a terminal of its own, that sends itself a signal; 0 is none."""
    words = ["sweep", str(spec), "--out", str(out), "--jobs", str(jobs), *more]
    command = [sys.executable, "-c", SWEEP, str(int(number)), str(trainings), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def journal(out: Path) -> list[dict[str, Any]]:
    path = out / "journal.jsonl"
    whole, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")  # it may be added to meanwhile
    return [json.loads(line) for line in whole.splitlines()[1:]]


def ended(spec: Path, out: Path, jobs: int, number: signal.Signals, trainings: int) -> str:
    """A sweep that a signal ends when so many trainings are in its journal, and one more has ended; what it printed."""
    trainings = max(trainings, len(journal(out)))
    with program(spec, out, jobs, number=number, trainings=trainings) as sweep:
        _, errors = sweep.communicate()
    assert sweep.returncode == (-number if number == signal.SIGKILL else 128 + number), errors
    return errors


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "net.yaml"
    path.write_text(NET + GRID)
    return path


@pytest.fixture(scope="module")
def one_job(spec: Path) -> Path:
    """The folder of a sweep whose trainings ran one after the other."""
    out = spec.parent / "one"
    assert main(["sweep", str(spec), "--out", str(out), "--jobs", "1", "--threads", "1", "--quiet"]) == 0
    return out


def table(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_best_first_and_what_failed_last(one_job: Path) -> None:
    rows = table(one_job)
    assert [row["trial"] for row in rows] == ["3", "1", "2"]
    assert float(rows[0]["validation.loss"]) < float(rows[1]["validation.loss"])
    assert rows[2]["validation.loss"] == ""
    assert rows[2]["error"].startswith("the loss became not a number")


def test_what_a_spec_trains_that_is_changed_meanwhile_does_not_count(
    one_job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out, ended = tmp_path / "net.yaml", tmp_path / "out", list[Task]()
    spec.write_text(NET + GRID)
    words = ["sweep", str(spec), "--out", str(out), "--jobs", "1", "--threads", "1", "--quiet"]

    def changing(sweep: _SweepVerb, task: Task, outcome: Outcome) -> None:
        store(sweep, task, outcome)
        ended.append(task)
        spec.write_text(NET.replace("batch_size: 35", "batch_size: 10") + GRID)

    store = _SweepVerb.done
    with monkeypatch.context() as patched:
        patched.setattr(_SweepVerb, "done", changing)
        assert main(words) == 4
    assert f"{spec} was changed while its sweep ran\nhelp: put it back" in capsys.readouterr().err
    assert len(ended) == 1
    spec.write_text(NET + GRID)
    assert main(words) == 0
    assert (out / "table.csv").read_bytes() == (one_job / "table.csv").read_bytes()


def test_a_trial_is_an_ordinary_training_of_which_only_validation_is_known(one_job: Path, spec: Path) -> None:
    change = ["--set", "train.optimizer.learning_rate=0.3"]
    assert main(["train", str(spec), "--quiet", "--out", str(spec.parent / "runs"), *change]) == 0
    trained = json.loads((spec.parent / "runs" / "net" / "run.json").read_text())["results"]
    assert float(table(one_job)[0]["validation.loss"]) == trained["validation.loss"]
    trials = [record for record in journal(one_job) if record["trial"] > 0]
    assert len(trials) == 3
    assert not [name for record in trials for name in record["figures"] if name.startswith("test.")]
    for path in (one_job / "trials").glob("*/metrics.jsonl"):
        assert {row["test.loss"] for row in map(json.loads, path.read_text().splitlines())} <= {None}
    assert not list((one_job / "trials").glob("*/*.npz"))


def test_the_best_is_written_with_its_origin_and_tested_once(one_job: Path, spec: Path) -> None:
    text = (one_job / "best.yaml").read_text()
    assert text.startswith(f"# The best of the sweep of {spec}: trial 3 of 3, by grid,\n")
    best = load(one_job / "best.yaml")
    assert best.train is not None
    assert best.train.optimizer.learning_rate == 0.3
    assert best.sweep is None
    assert main(["validate", str(one_job / "best.yaml"), "--strict"]) == 0
    tested = [record for record in journal(one_job) if record["trial"] == 0]
    assert len(tested) == 1
    results = json.loads((one_job / "best" / "run.json").read_text())["results"]
    assert tested[0]["figures"]["test.loss"] == results["test.loss"]
    assert repr(results["validation.loss"]) == table(one_job)[0]["validation.loss"]


def test_two_jobs_give_the_same(one_job: Path, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = spec.parent / "two"
    assert main(["sweep", str(spec), "--out", str(out), "--jobs", "2", "--json"]) == 0
    assert (out / "table.csv").read_bytes() == (one_job / "table.csv").read_bytes()
    found = json.loads(capsys.readouterr().out)
    assert found["best"] == 3
    assert [row["trial"] for row in found["trials"]] == [3, 1, 2]
    assert found["figures"]["test.loss"]["mean"] > 0
    assert set(found["importance"]) == {"train.optimizer.learning_rate"}


def test_interrupted_and_killed_it_goes_on_to_the_same(one_job: Path, spec: Path) -> None:
    out = spec.parent / "four"
    assert "go on with the same command" in ended(spec, out, 4, signal.SIGINT, 1)
    ended(spec, out, 4, signal.SIGKILL, 2)
    with (out / "journal.jsonl").open("a") as file:
        file.write('{"trial": 3, "se')  # as far as it was written when it was killed
    before = journal_lines(out)
    assert main(["sweep", str(spec), "--out", str(out), "--jobs", "4", "--quiet"]) == 0
    assert (out / "table.csv").read_bytes() == (one_job / "table.csv").read_bytes()
    assert journal_lines(out)[: len(before) - 1] == before[:-1]
    assert len(journal(out)) == 4


def journal_lines(out: Path) -> list[str]:
    return (out / "journal.jsonl").read_text().splitlines()


def test_a_sweep_that_is_over_trains_nothing_again(
    one_job: Path, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (one_job / "journal.jsonl").read_bytes()
    assert main(["sweep", str(spec), "--out", str(one_job), "--jobs", "2"]) == 0
    assert (one_job / "journal.jsonl").read_bytes() == before
    said = capsys.readouterr()
    assert "goes on: 4 trainings are in journal.jsonl" in said.err
    assert "best: trial 3, test.accuracy" in said.out


@pytest.mark.parametrize("change", ["train.epochs=3", "sweep.values={train.batch_size: [10, 20]}", "seed=4"])
def test_another_sweep_does_not_go_on_here(
    one_job: Path, spec: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (one_job / "journal.jsonl").read_bytes()
    assert main(["sweep", str(spec), "--out", str(one_job), "--set", change]) == 4
    assert f"{one_job} holds a sweep with another" in capsys.readouterr().err
    assert (one_job / "journal.jsonl").read_bytes() == before


def test_points_that_another_library_draws_are_told(
    one_job: Path, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = spec.parent / "drawn"
    out.mkdir()
    first, second, *rest = (json.loads(line) for line in journal_lines(one_job))
    second["values"] = dict.fromkeys(second["values"], 0.5)
    (out / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (first, second, *rest)))
    assert main(["sweep", str(spec), "--out", str(out)]) == 4
    assert f"trial {second['trial']} was trained with {second['values']}" in capsys.readouterr().err


def test_a_damaged_journal_is_told(spec: Path, one_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = spec.parent / "damaged"
    out.mkdir()
    lines = journal_lines(one_job)
    (out / "journal.jsonl").write_text("\n".join([lines[0], "{}", lines[1]]) + "\n")
    assert main(["sweep", str(spec), "--out", str(out)]) == 4
    said = capsys.readouterr().err
    assert "journal.jsonl is damaged at line 2" in said
    assert f"help: remove that line, and its training is done again; or remove {out} to begin" in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_ends_the_sweep_and_is_no_failure_of_a_trial(number: int, tmp_path: Path) -> None:
    program = Program(Task(3, 0), (), (), tmp_path / "trial-3-seed-0")
    with (tmp_path / "errors").open("w+b") as errors:
        errors.write(f"cnnspec: error: cannot write run.json: {os.strerror(number)}\n".encode())
        with subprocess.Popen(["false"], stdin=subprocess.PIPE) as process:
            process.wait()
            with pytest.raises(RunError, match=r"trial-3-seed-0: cannot write run\.json: ") as raised:
                outcome_of(Running(program, process, errors))
    assert raised.value.help == "see to the disk: the same command goes on"


def test_where_every_trial_fails_the_first_failure_is_told(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = spec.parent / "failing"
    change = "sweep.values={train.optimizer.learning_rate: [1.0e+39]}"
    assert main(["sweep", str(spec), "--out", str(out), "--set", change, "--quiet"]) == 4
    assert "none of 1 trials could be trained; the first: the loss became not a number" in capsys.readouterr().err
    assert not (out / "best.yaml").exists()


@pytest.mark.parametrize("section", ["data", "train", "sweep"])
def test_what_a_sweep_needs_is_told(tmp_path: Path, section: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, lines = tmp_path / "net.yaml", [*NET.splitlines()[:-1], "sweep: {values: {layers.out.bias: [none, channel]}}"]

    path.write_text("\n".join(line for line in lines if not line.startswith(section)))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 4
    assert f"has no {section} section" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_train_leaves_the_section_alone_and_says_so(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = spec.parent / "alone"
    assert (
        main(["train", str(spec), "--out", str(runs), "--no-test", "--max-epochs", "1", "--set", "require=null"]) == 0
    )
    said = capsys.readouterr()
    assert "note: train leaves the sweep section alone" in said.err
    assert "validation accuracy" in said.out
    assert load(runs / "net" / "spec.yaml").sweep is None
    assert main(["train", "--resume", str(runs / "net"), "--quiet"]) == 0
    assert main(["train", str(spec), "--out", str(runs), "--quiet"]) == 0
    ends = [json.loads((runs / name / "run.json").read_text())["results"] for name in ("net", "net-2")]
    assert ends[0]["weights"] == ends[1]["weights"]
    assert ends[0]["test.loss"] == ends[1]["test.loss"]
    first = json.loads((runs / "net" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["test.loss"] is None


def test_the_example_of_the_guide_validates(tmp_path: Path) -> None:
    page = files("cnnspec").joinpath("guide", "sweeps.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "net.yaml"
    path.write_text(example)
    assert main(["validate", str(path), "--strict"]) == 0  # an id that the sweep names is of use


@pytest.mark.slow
def test_24_trials_by_any_number_of_workers_and_after_10_kills(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(NET.replace("epochs: 2", "epochs: 8") + MANY)
    for jobs in (1, 2, 4):
        with program(path, tmp_path / str(jobs), jobs) as sweep:
            assert sweep.wait() == 0
    out = tmp_path / "killed"
    for kill in range(10):
        ended(path, out, 2 + kill % 2, signal.SIGKILL if kill % 3 else signal.SIGTERM, 3 * kill + 1)
    with program(path, out, 3) as sweep:
        assert sweep.wait() == 0
    tables = {(folder / "table.csv").read_bytes() for folder in (*(tmp_path / str(jobs) for jobs in (1, 2, 4)), out)}
    assert len(tables) == 1
    assert len(table(out)) == 24
    assert sorted({row["epochs"] for row in table(out)}) == ["1", "4", "8"]
    assert os.listdir(out / "trials")
