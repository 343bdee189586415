"""`verify RUN`: repeats a training, and compares it bit by bit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.cli.arguments import add_data, add_threads, count
from cnnspec.cli.opening import opened
from cnnspec.cli.output import note
from cnnspec.cli.progress import training_bar
from cnnspec.cli.trained import computable, data_folder, load_spec, trained_classes
from cnnspec.cli.versions import differences, latest, versions
from cnnspec.diagnostics import RunError
from cnnspec.optim import TrainSettings
from cnnspec.train import Progress as Moment
from cnnspec.train import fit
from cnnspec.train.checkpoint import BEST, LAST, Checkpoint, most_bytes, read_checkpoint, superseded
from cnnspec.train.fit import Watcher
from cnnspec.train.origin import origin, require_origin
from cnnspec.train.records import lacking
from cnnspec.train.run import Run
from cnnspec.train.session import TRACED
from cnnspec.train.transfer import transfer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--steps", type=count, default=TRACED, metavar="N", help=f"at most {TRACED}, the default")
    parser.add_argument("--all", action="store_true", help="train all epochs again, and compare the weights after each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_data(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Repeat and compare; RunError at the first difference, with the versions that differ.

    The checkpoints must belong to the spec and the data, and hold the weights that were written.
    """
    run_ = Run.existing(arguments.run)
    about = run_.about()
    spec = computable(load_spec(run_.path))
    graph = checked(spec)
    arguments.data = arguments.data or data_folder(run_.path)
    data = opened(spec, graph, arguments, trained_classes(run_.path))
    run_.origin = origin(spec, graph, data.checksums)
    model = Model(spec, graph, threads=arguments.threads)
    last = _last_checkpoint(run_, model)
    rows = run_.rows(last)
    run_.require_same(run_.history(), rows)
    if older := superseded(run_.path / LAST, about):
        note(older)
    trained = int(last.progress["step"])
    most = trained if arguments.all else min(arguments.steps, TRACED, trained)
    _transfer_again(model, about)
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
    if difference is None and replay.compared < most:
        difference = f"of {most:,} steps, {replay.compared:,} could be compared: the rest is not recorded"
    changed = {} if difference is None else _changed(about.get("versions", {}))
    record = {"steps": replay.steps, "epochs": replay.epochs, "difference": difference, "versions": changed}
    if arguments.json:
        print(json.dumps(record))
    elif difference is None:
        epochs = f" and {replay.epochs} epochs" if replay.epochs else ""
        print(f"the same bits: {replay.steps} steps{epochs}")
    if difference is None:
        return 0
    _note_versions(about, changed)
    why = "see the versions above" if changed else "all versions agree: look at the data and the machine"
    if spec.train and _knows_the_end(spec.train):
        name = spec.train.schedule.type_name
        why += f", and whether --resume added epochs: under {name} one training of them all has other rates"
    raise RunError(f"{run_.path} cannot be repeated: {difference}", why)


def _last_checkpoint(run: Run, model: Model) -> Checkpoint:
    """Check the best checkpoint, if there is one, and return the last; RunError if one belongs to another training."""
    for name in (BEST, LAST):
        if name == LAST or (run.path / name).exists():
            last = read_checkpoint(run.path / name, most_bytes(model.weights, model.training))
            require_origin(last, run.origin)
    if lacks := lacking(last.progress, ("step", "epochs", "part")):
        raise RunError(f"{last.path}: {lacks}", "verify a run directory made by `cnnspec train`")
    return last


def _transfer_again(model: Model, about: Mapping[str, Any]) -> None:
    """Put the initial weights of another network in, if the training had any; RunError if they have changed since."""
    initial, recorded = transfer(model), about.get("init", {}).get("weights")
    if initial is not None and recorded not in (None, initial.weights):
        raise RunError(
            f"{initial.source} has other weights than those that the training started from",
            f"restore it: their fingerprint is {recorded}, not {initial.weights}",
        )


def _note_versions(about: Mapping[str, Any], changed: Mapping[str, tuple[str, str]]) -> None:
    """Print which versions differ from those of the training, and which changed when it was resumed."""
    for name, (before, here) in changed.items():
        note(f"{name} was {before}, is {here}")
    parts = about.get("parts", [])
    for number, part in enumerate(parts):
        former = latest({**about, "parts": parts[:number]})
        for text in differences(former, part.get("versions", {})):
            note(f"from step {part.get('step', 0) + 1:,} on: {text}")


class _Stop(Exception):  # noqa: N818
    """Raised inside the loop when all steps to compare are done, or one differs."""


class _Replay:
    """Repeats a training for up to `most` steps, and compares it with the record of the first one."""

    def __init__(self, model: Model, trace: Mapping[str, str], most: int) -> None:
        self.model, self.trace, self.most = model, trace, most
        self.ends = {TRACED: trace["weights"]} if "weights" in trace else {}  # fingerprints by step
        self.steps = self.epochs = self.compared = 0
        self.found: str | None = None
        self.show: Watcher | None = None

    def difference(self, data: Any, rows: list[dict[str, Any]]) -> str | None:
        """Return the first difference; None if there is none."""
        try:
            for epoch in fit(self.model, data, watch=self.watch, max_steps=self.most):
                row = rows[epoch.epoch - 1] if epoch.epoch <= len(rows) else None
                if row is None or row["step"] != epoch.step:
                    break
                if row["weights"] != epoch.weights:
                    self.found = f"weights after epoch {epoch.epoch}: expected {row['weights']}, got {epoch.weights}"
                    break
                self.epochs += 1
                self.compared = epoch.step
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
            self.compared += self.compared == step - 1
        self.steps = step
        if self.show is not None:
            self.show(progress)
        if step in self.ends:
            weights = self.model.fingerprint()
            if weights != self.ends[step]:
                self.found = f"weights after step {step}: expected {self.ends[step]}, got {weights}"
                raise _Stop
            self.compared = step  # equal weights have come by equal steps
        if step >= self.most and progress.position.done < progress.steps:
            raise _Stop


def _knows_the_end(train: TrainSettings) -> bool:
    """Tell whether the learning rate depends on the total number of epochs."""
    of, epochs = train.schedule.factor, train.epochs
    return any(abs(of(share * epochs, epochs) - of(share * epochs, epochs + 1)) > 1e-12 for share in (0.1, 0.5, 0.9))


def _changed(before: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    here = versions()
    return {name: (before[name], here[name]) for name in here if name in before and before[name] != here[name]}
