"""The course of a sweep without trainings: halving, failures, and what its table and importance say."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kruskal

from cnnspec.diagnostics import RunError
from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Journal, Outcome, Task
from cnnspec.sweep.table import best_of, importance, table_text
from cnnspec.sweep.trials import Trial, course, planned_epochs, rungs, tasks_of
from tests.sweep.test_points import SPEC, figure, sweep_of

METRIC = "validation.loss"


class Trainer:
    """Trains nothing: figures are a function of the point, the seed and the epochs; some fail."""

    def __init__(self, sweep: Sweep, epochs: float, failing: Sequence[int] = ()) -> None:
        self.sweep, self.epochs, self.failing = sweep, epochs, failing
        self.asked: list[tuple[list[int], int | None]] = []
        self.done = 0.0

    def __call__(self, trials: Sequence[Trial], epochs: int | None) -> dict[Task, Outcome]:
        self.asked.append(([trial.number for trial in trials], epochs))
        found = {}
        reached = self.epochs if epochs is None else epochs
        for trial in trials:
            self.done += self.sweep.seeds * (reached - trial.epochs)
            for task in tasks_of(self.sweep, 0, trial.number, epochs):
                failed = "it broke" if trial.number in self.failing else ""
                value = figure(trial.point) + task.seed / 100 + 1 / reached
                found[task] = Outcome({} if failed else {METRIC: value}, failed, 1.0, reached)
        return found


def run(sweep: Sweep, epochs: float = 9, failing: Sequence[int] = ()) -> tuple[list[Trial], Trainer]:
    trainer = Trainer(sweep, epochs, failing)
    *_, trials = course(sweep, 0, epochs, trainer)
    return trials, trainer


def test_halving_trains_the_best_third_three_times_as_long() -> None:
    sweep = sweep_of("sweep.halving={first: 1, factor: 3}", "sweep.trials=18", "sweep.generation=9", "sweep.seeds=2")
    assert rungs(sweep, 9) == [1, 3, None]
    trials, trainer = run(sweep)
    assert [(len(numbers), epochs) for numbers, epochs in trainer.asked] == 2 * [(9, 1), (3, 3), (1, None)]
    for start in (0, 9):
        generation = sorted(trials[start : start + 9], key=lambda trial: figure(trial.point))
        assert [len(trial.rungs) for trial in generation] == [3, 2, 2, 1, 1, 1, 1, 1, 1]
    assert trainer.done == planned_epochs(sweep, 9)
    best = best_of(sweep, trials)
    assert best is not None
    assert figure(best.point) == min(figure(trial.point) for trial in trials)


def test_a_failed_trial_never_goes_on() -> None:
    sweep = sweep_of("sweep.halving={first: 2, factor: 2}", "sweep.trials=4")
    trials, trainer = run(sweep, failing=(1, 2, 3))
    assert [numbers for numbers, _ in trainer.asked] == [[1, 2, 3, 4], [4], [4], [4]]
    assert [trial.error() for trial in trials] == ["it broke"] * 3 + [""]
    assert best_of(sweep, run(sweep, failing=(1, 2, 3, 4))[0]) is None


def test_the_table_has_means_and_spreads_over_the_seeds() -> None:
    sweep = sweep_of("sweep.trials=5", "sweep.seeds=3")
    trials, _ = run(sweep, failing=(2,))
    rows = list(csv.DictReader(io.StringIO(table_text(sweep, trials))))
    assert len(rows) == 5
    assert rows[-1]["trial"] == "2"
    assert (rows[-1][METRIC], rows[-1]["error"]) == ("", "it broke")
    means = [float(row[METRIC]) for row in rows[:-1]]
    assert means == sorted(means)
    for row, mean in zip(rows[:-1], means, strict=True):
        point = trials[int(row["trial"]) - 1].point
        assert mean == pytest.approx(figure(point) + 0.01 + 1 / 9)
        assert float(row["spread"]) == pytest.approx(0.01)


def test_of_accuracy_the_highest_is_the_best() -> None:
    sweep = sweep_of("sweep.metric=validation.accuracy", "sweep.trials=3")
    trials = [Trial(n, {}, [[Outcome({"validation.accuracy": value})]]) for n, value in enumerate((0.2, 0.9, 0.5), 1)]
    best = best_of(sweep, trials)
    assert best is not None
    assert best.number == 2


def test_importance_is_the_effect_size_of_kruskal_and_wallis() -> None:
    sweep = sweep_of("sweep.trials=40")
    trials, _ = run(sweep)
    found = importance(sweep, trials)
    by_rate = sorted(trials, key=lambda trial: trial.point["train.optimizer.learning_rate"])
    groups = [[figure(trial.point) for trial in by_rate[n : n + 10]] for n in range(0, 40, 10)]
    assert found["train.optimizer.learning_rate"] == pytest.approx((kruskal(*groups).statistic - 3) / 36)
    choices: list[list[float]] = [[], []]
    for trial in trials:
        choices[trial.point["train.schedule"] == "cosine"].append(figure(trial.point))
    expected = max(0.0, (kruskal(*choices).statistic - 1) / 38)
    assert found["train.schedule"] == pytest.approx(expected)
    assert max(found, key=lambda path: found[path] or 0) == "train.optimizer.learning_rate"
    assert set(importance(sweep, trials[:1]).values()) == {None}


POINT = {"train.batch_size": 8, "train.optimizer.learning_rate": 0.1}


def test_a_journal_is_read_back_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path, about = tmp_path / "journal.jsonl", {"spec": SPEC, "epochs": 2}
    journal, outcome = Journal(path, about), Outcome({METRIC: 0.1 + 0.2}, "", 1.5, 2)
    journal.add(Task(1, 0, 4), POINT, outcome)
    journal.add(Task(2, 0), POINT, Outcome({}, "it broke", 0.5))
    whole = path.read_bytes()
    for cut in range(1, 30, 7):
        path.write_bytes(whole[:-cut])
        assert Journal(path, about).outcomes == {Task(1, 0, 4): outcome}
    path.write_bytes(whole)
    assert Journal(path, about).outcomes == journal.outcomes
    with pytest.raises(RunError, match="another epochs"):
        Journal(path, {**about, "epochs": 3})
    path.write_bytes(whole.replace(b'"figures"', b'"figure"', 1))
    with pytest.raises(RunError, match="damaged at line 2"):
        Journal(path, about)


def test_outcomes_are_those_of_the_point_that_was_trained(tmp_path: Path) -> None:
    path, about = tmp_path / "journal.jsonl", {"spec": SPEC}
    Journal(path, about).add(Task(1, 0), POINT, Outcome({METRIC: 0.5}))
    journal = Journal(path, about)
    journal.check_point(1, POINT)
    journal.check_point(2, {"train.batch_size": 9})
    with pytest.raises(RunError, match=r"trial 1 was trained with .*'train.batch_size': 8.* but here .*9") as raised:
        journal.check_point(1, POINT | {"train.batch_size": 9})
    assert "the versions of SciPy and Optuna" in (raised.value.help or "")


def test_planned_epochs_of_a_plain_sweep() -> None:
    sweep = sweep_of("sweep.trials=7", "sweep.seeds=2", "sweep.generation=3")
    assert planned_epochs(sweep, 2.5) == 7 * 2 * 2.5
    assert math.isclose(np.float64(run(sweep, 2.5)[1].done), 35)
