"""`verify RUN`: train the same again, and compare bit by bit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.cli.arguments import add_data, add_threads, count
from cnnspec.cli.opening import opened
from cnnspec.cli.progress import training_bar
from cnnspec.cli.trained import data_folder, load_spec, origin, trained_classes
from cnnspec.cli.versions import versions
from cnnspec.diagnostics import RunError
from cnnspec.train import Progress as Moment
from cnnspec.train import fit
from cnnspec.train.checkpoint import Checkpoint, read_checkpoint
from cnnspec.train.fingerprint import fingerprint
from cnnspec.train.fit import Watcher
from cnnspec.train.run import BEST, LAST, Run
from cnnspec.train.session import TRACED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--steps", type=count, default=TRACED, metavar="N", help=f"at most {TRACED}, the default")
    parser.add_argument("--all", action="store_true", help="train all epochs again, and compare the weights after each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_data(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay and compare; RunError at the first difference, with the versions that differ.

    The checkpoints must belong to the spec and the data, and hold the weights that were written.
    """
    run_ = Run.existing(arguments.run)
    about, rows = run_.about(), run_.history()
    spec = load_spec(run_.path)
    graph = checked(spec)
    arguments.data = arguments.data or data_folder(run_.path)
    data = opened(spec, graph, arguments, trained_classes(run_.path))
    run_.origin = origin(spec, graph, data)
    for name in (BEST, LAST):
        if name == LAST or (run_.path / name).exists():
            last = read_checkpoint(run_.path / name)
            run_.check(last)
            _same_weights(last, rows)
    model = Model(spec, graph, threads=arguments.threads)
    most = int(last.progress["step"]) if arguments.all else min(arguments.steps, TRACED)
    replay = _Replay(model, {**about.get("trace", {})}, most)
    if arguments.all:
        replay.ends[most] = str(last.progress["weights"])
    if not replay.trace:
        raise RunError(f"{run_.path} has no trace of its first steps", "its training ended before the first one")
    console = Console(stderr=True, highlight=False)
    total = spec.train.epochs if spec.train and arguments.all else 0
    with training_bar(console, total) if total and console.is_terminal else nullcontext() as show:
        replay.show = show
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
    for name, (before, here) in changed.items():
        print(f"cnnspec: note: {name} was {before}, is {here}", file=sys.stderr)
    why = "see the versions above" if changed else "all versions agree: look at the data and the machine"
    raise RunError(f"{run_.path} cannot be repeated: {difference}", why)


def _same_weights(checkpoint: Checkpoint, rows: list[dict[str, Any]]) -> None:
    """RunError where a checkpoint holds other weights than it says, or than the metrics say of its step."""
    got, expected = fingerprint(checkpoint.network, checkpoint.averages), {str(checkpoint.progress["weights"])}
    if checkpoint.path.name == LAST:  # the best ones may be of steps that were done anew since
        expected |= {row["weights"] for row in rows if row["step"] == checkpoint.progress["step"]}
    if expected != {got}:
        raise RunError(
            f"{checkpoint.path} was changed: expected weights {' and '.join(sorted(expected - {got}))}, got {got}",
            "resume from another checkpoint of the run, or train anew",
        )


class _Stop(Exception):  # noqa: N818
    """Raised inside the loop once all steps to compare are done, or one differs."""


class _Replay:
    """A training that is done again, up to `most` steps, and compared with what the first one left."""

    def __init__(self, model: Model, trace: Mapping[str, str], most: int) -> None:
        self.model, self.trace, self.most = model, trace, most
        self.ends = {TRACED: trace["weights"]} if "weights" in trace else {}  # fingerprints by step
        self.steps = self.epochs = 0
        self.found: str | None = None
        self.show: Watcher | None = None

    def difference(self, data: Any, rows: list[dict[str, Any]]) -> str | None:
        """The first thing that differs; None where nothing does."""
        try:
            for epoch in fit(self.model, data, watch=self.watch, max_steps=self.most):
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
        step = progress.position.step
        if str(step) in self.trace:
            expected, got = float.fromhex(self.trace[str(step)]), progress.step_loss
            if expected != got:
                self.found = f"loss of step {step}: expected {expected!r}, got {got!r}"
                raise _Stop
        self.steps = step
        if self.show is not None:
            self.show(progress)
        if step in self.ends:
            weights = self.model.fingerprint()
            if weights != self.ends[step]:
                self.found = f"weights after step {step}: expected {self.ends[step]}, got {weights}"
                raise _Stop
        if step >= self.most and progress.position.done < progress.steps:
            raise _Stop


def _changed(before: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    here = versions()
    return {name: (before[name], here[name]) for name in here if name in before and before[name] != here[name]}
