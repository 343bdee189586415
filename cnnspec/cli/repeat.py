"""Trains one spec several times: on each of several folds, with each of several seeds."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.spec import Spec

SPLITS = ("validation.", "test.")  # splits whose figures are summarised


def variants(spec: Spec, arguments: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """Yield the arguments of each training: its fold, its seed, and a name that contains both."""
    if arguments.resume is not None or str(arguments.spec) == "-":
        raise RunError("--folds and --seeds begin trainings of a spec file", "resume each run by itself")
    folds, seeds = arguments.folds or 1, arguments.seeds or 1
    if arguments.folds == 1:
        raise RunError("--folds: expected at least 2, got 1", "write --folds 5")
    for fold in range(1, folds + 1):
        for seed in range(spec.seed, spec.seed + seeds):
            one, name = copy.copy(arguments), spec.name
            one.overrides = list(arguments.overrides)
            if arguments.folds:
                one.overrides.append(f"data.validation={{folds: {folds}, fold: {fold}}}")
                name += f"-fold-{fold}"
            if arguments.seeds:
                one.overrides.append(f"seed={seed}")
                name += f"-seed-{seed}"
            one.overrides.append(f"name={name}")
            yield one


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean and standard deviation of every figure that all runs have."""
    statistics_of = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if name.startswith(SPLITS) and all(isinstance(value, (int, float)) for value in values):
            numbers = np.array(values, np.float64)
            statistics_of[name] = {"mean": float(numbers.mean()), "spread": float(numbers.std(ddof=len(rows) > 1))}
    return statistics_of


def results_text(paths: Sequence[Path], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> str:
    """Return the final output of several trainings: their runs, and the mean and deviation of their figures."""
    statistics_of = summary(rows)
    if as_json:
        return json.dumps({"runs": [str(path) for path in paths], "figures": statistics_of})
    width = max(map(len, statistics_of), default=0)
    lines = [
        f"{name:<{width}}  {statistic['mean']:.4f} +- {statistic['spread']:.4f}"
        for name, statistic in statistics_of.items()
    ]
    return "\n".join([f"{len(rows)} runs, mean and standard deviation:", *lines])
