"""`verify RUN`: train the same again, and compare bit by bit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnspec.cli.arguments import add_data, add_threads, count
from cnnspec.cli.check import checked, opened
from cnnspec.cli.versions import versions
from cnnspec.diagnostics import RunError
from cnnspec.spec import load
from cnnspec.train import Model, fit
from cnnspec.train import Progress as Moment
from cnnspec.train.fingerprint import fingerprint
from cnnspec.train.keeper import TRACED
from cnnspec.train.run import SPEC, Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--steps", type=count, default=TRACED, metavar="N", help=f"at most {TRACED}, the default")
    parser.add_argument("--all", action="store_true", help="train all epochs again, and compare the weights after each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_data(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay and compare; RunError at the first difference, with the versions that differ."""
    run_ = Run.existing(arguments.run)
    about, rows = run_.about(), run_.history()
    spec = load(run_.path / SPEC)
    graph = checked(spec)
    data = opened(spec, graph, arguments)
    model = Model(spec, graph, threads=arguments.threads)
    replay = _Replay(model, about.get("trace", {}), None if arguments.all else min(arguments.steps, TRACED))
    if not replay.trace:
        raise RunError(f"{run_.path} has no trace of its first steps", "its training ended before the first one")
    difference = replay.difference(data, rows)
    changed = {} if difference is None else _changed(about.get("versions", {}))
    found = {"steps": replay.steps, "epochs": replay.epochs, "difference": difference, "versions": changed}
    if arguments.json:
        print(json.dumps(found))
    elif difference is None:
        epochs = f" and {replay.epochs} epochs" if replay.epochs else ""
        print(f"the same bits: {replay.steps} steps{epochs}")
    if difference is None:
        return 0
    for name, (before, now) in changed.items():
        print(f"cnnspec: note: {name} was {before}, is {now}", file=sys.stderr)
    why = "see the versions above" if changed else "all versions agree: look at the data and the machine"
    raise RunError(f"{run_.path} cannot be repeated: {difference}", why)


class _Stop(Exception):  # noqa: N818
    """Enough was seen."""


class _Replay:
    def __init__(self, model: Model, trace: Mapping[str, str], most: int | None) -> None:
        self.model, self.trace, self.most = model, trace, most
        self.steps = self.epochs = 0
        self.found: str | None = None

    def difference(self, data: Any, rows: list[dict[str, Any]]) -> str | None:
        """The first thing that differs; None where nothing does."""
        try:
            for epoch in fit(self.model, data, watch=self.watch):
                row = rows[epoch.epoch - 1] if epoch.epoch <= len(rows) else None
                if row is None or row["step"] != epoch.step:
                    break
                if row["weights"] != epoch.weights:
                    self.found = f"weights after epoch {epoch.epoch}: expected {row['weights']}, got {epoch.weights}"
                    break
                self.epochs += 1
        except _Stop:
            pass
        return self.found

    def watch(self, progress: Moment) -> None:
        step = str(progress.position.step)
        if step in self.trace:
            expected, got = float.fromhex(self.trace[step]), progress.step_loss
            if expected != got:
                self.found = f"loss of step {step}: expected {expected!r}, got {got!r}"
                raise _Stop
            self.steps += 1
        if progress.position.step == TRACED and "weights" in self.trace:
            now = fingerprint(self.model.weights)
            if now != self.trace["weights"]:
                self.found = f"weights after step {TRACED}: expected {self.trace['weights']}, got {now}"
                raise _Stop
        if self.most is not None and progress.position.step >= self.most:
            raise _Stop


def _changed(before: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    now = versions()
    return {name: (before[name], now[name]) for name in now if name in before and before[name] != now[name]}
