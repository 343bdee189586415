"""The results of a sweep: its trials as a table, and the importance of each value that varied."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnspec.spec.model import written
from cnnspec.spec.sweep import Choices, Sweep
from cnnspec.sweep.trials import Trial, order_of

GROUPS = 4  # the number of groups that trials are divided into by the values of a range


def sorted_trials(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials, the best first: those that went further before those that halving left out, failed ones last."""
    return sorted(trials, key=lambda trial: order_of(sweep, trial))


def best_of(sweep: Sweep, trials: Sequence[Trial]) -> Trial | None:
    """The best trial; None if all failed."""
    best = min(trials, key=lambda trial: order_of(sweep, trial), default=None)
    return None if best is None or best.mean(sweep.metric) is None else best


def rows(sweep: Sweep, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row for each trial, the best first: number, values, epochs, mean, spread, figure of each seed, error."""
    return [
        {
            "trial": trial.number,
            "values": trial.point,
            "epochs": trial.epochs,
            "mean": trial.mean(sweep.metric),
            "spread": trial.spread(sweep.metric),
            "seeds": trial.values(sweep.metric),
            "error": trial.error(),
        }
        for trial in sorted_trials(sweep, trials)
    ]


def table_text(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """The rows as the text of a CSV file, with all digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", *sweep.values, "epochs", sweep.metric, "spread", "error"])
    for row in rows(sweep, trials):
        values = [written(row["values"][path]) for path in sweep.values]
        figures = ["" if row[name] is None else repr(row[name]) for name in ("mean", "spread")]
        writer.writerow([row["trial"], *values, f"{row['epochs']:g}", *figures, row["error"]])
    return file.getvalue()


def importance(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, float | None]:
    """The portion of the variance of the trials' ranks that each value explains by itself; None for too few trials.

    Trials are ranked by the figure at the first comparison and put into groups: one for each choice, or four of equal
    size by the values of a range, fewer if there are few trials. With H the statistic of Kruskal and Wallis over k
    groups of n trials, the portion is max(0, (H - k + 1) / (n - k)). Source: Tomczak and Tomczak, "The need to report
    effect size estimates revisited" (2014).
    """
    figures = [(trial, trial.mean(sweep.metric, 0)) for trial in trials]
    scored = [(trial, figure) for trial, figure in figures if figure is not None]
    ranks = _ranks(np.array([figure for _, figure in scored]))
    return {path: _explained(ranks, _groups(sweep, path, [trial for trial, _ in scored])) for path in sweep.values}


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The ranks of values from 1 on; equal values have the mean of their ranks."""
    return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


def _groups(sweep: Sweep, path: str, trials: Sequence[Trial]) -> list[list[int]]:
    """Group the positions of trials by equal or similar values at a path."""
    domain = sweep.values[path]
    if isinstance(domain, Choices):
        groups = [[n for n, trial in enumerate(trials) if trial.point[path] == choice] for choice in domain.values]
    else:
        order = sorted(range(len(trials)), key=lambda n: (trials[n].point[path], n))
        count = max(1, min(GROUPS, len(trials) // 2))
        groups = [part.tolist() for part in np.array_split(np.array(order, int), count)]
    return [group for group in groups if group]


def _explained(ranks: np.ndarray[Any, Any], groups: Sequence[Sequence[int]]) -> float | None:
    n, k = len(ranks), len(groups)
    if k < 2 or n <= k:
        return None
    total = ((ranks - ranks.mean()) ** 2).sum()
    if total == 0:
        return 0.0
    between = sum(len(group) * (ranks[list(group)].mean() - ranks.mean()) ** 2 for group in groups)
    h = (n - 1) * between / total
    return float(max(0.0, (h - k + 1) / (n - k)))
