"""`train SPEC`: read, check, compile, train, and leave a run directory."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import cnnspec
from cnnspec.cli import INTERRUPTED
from cnnspec.cli.arguments import add_data, add_spec, add_threads
from cnnspec.cli.check import checked, opened
from cnnspec.data import Data
from cnnspec.diagnostics import RunError
from cnnspec.report import draw_curves
from cnnspec.spec import Spec, load, render
from cnnspec.train import Epoch, Model, Run, fit
from cnnspec.train import Progress as Moment
from cnnspec.train.fit import Watcher
from cnnspec.train.gates import unmet
from cnnspec.train.run import LAST

CURVES = "loss.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_spec(parser)
    add_data(parser)
    add_threads(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where the run directory is made (default: runs)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print one JSON object per epoch, and one at the end")


def run(arguments: argparse.Namespace) -> int:
    """Train; 0, or 4 where a gate of `require` is not met."""
    spec = load(arguments.spec, arguments.overrides, allow_outside=arguments.allow_outside)
    if spec.data is None or spec.train is None:
        missing = "data" if spec.data is None else "train"
        raise RunError(
            f"{arguments.spec} has no {missing} section, so there is nothing to train with",
            "add data: {source: digits} and train: {epochs: 10}",
        )
    graph = checked(spec)
    data = opened(spec, graph, arguments)
    model = Model(spec, graph, threads=arguments.threads)
    run = Run(arguments.out, spec.name)
    voice = _Voice(arguments, spec)
    about = _about(spec, model, data, arguments)
    run.begin(model, render(spec, graph.nodes), about)
    voice.line(
        f"{spec.name}: {graph.parameter_count:,} parameters, {len(data.train):,} training images, "
        f"{model.threads} threads; writing {run.path}/"
    )
    started, rows = time.perf_counter(), list[dict[str, Any]]()
    epoch: Epoch | None = None
    try:
        with voice.progress(spec.train.epochs) as watch:
            for epoch in fit(model, data, watch=watch):
                best = run.record(model, epoch)
                rows.append(epoch.metrics())
                voice.epoch(epoch, spec.train.epochs, best)
                _draw(rows, run.path, spec.name)
    except KeyboardInterrupt:
        print(f"cnnspec: interrupted; the last whole epoch is in {run.path / LAST}", file=sys.stderr)
        return INTERRUPTED
    assert epoch is not None
    failures = unmet(spec.require, rows[-1])
    about["results"] = {**rows[-1], "seconds": round(time.perf_counter() - started, 3)}
    about["unmet"] = failures
    run.describe(about)
    voice.end(run.path, about["results"], failures)
    return 4 if failures else 0


def _draw(rows: list[dict[str, Any]], directory: Path, title: str) -> None:
    # The picture needs the report extra; without it the figures are in metrics.csv all the same.
    with suppress(ImportError):
        draw_curves(rows, directory / CURVES, title)


def _about(spec: Spec, model: Model, data: Data, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": spec.name,
        "command": shlex.join(["cnnspec", *sys.argv[1:]]),
        "spec": str(arguments.spec),
        "seed": spec.seed,
        "threads": model.threads,
        "versions": {
            "cnnspec": cnnspec.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
        },
        "data": dict(data.checksums),
        "classes": data.class_names,
        "images": {name: len(split) for name, split in data.splits.items()},
        "parameters": model.graph.parameter_count,
        "macs": model.graph.macs,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


class _Voice:
    """What a training says: a bar on a terminal, a line per epoch elsewhere, JSON, or nothing."""

    def __init__(self, arguments: argparse.Namespace, spec: Spec) -> None:
        self.json, self.quiet = arguments.json, arguments.quiet
        self.console = Console(stderr=True, highlight=False)
        self.bar = self.console.is_terminal and not (self.json or self.quiet)

    def line(self, text: str) -> None:
        if not (self.json or self.quiet):
            self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, epochs: int) -> Iterator[Watcher | None]:
        """A bar over one epoch at a time, on a terminal."""
        if not self.bar:
            yield None
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", epoch=1, epochs=epochs, figures="")

            def watch(moment: Moment) -> None:
                accuracy = "" if moment.accuracy is None else f"  accuracy {moment.accuracy:.2%}"
                bar.update(
                    task,
                    total=moment.steps * epochs,
                    completed=moment.step + (moment.epoch - 1) * moment.steps,
                    epoch=moment.epoch,
                    figures=f"loss {moment.loss:.4f}{accuracy}  {moment.images_per_second:,.0f} images/s",
                )

            yield watch

    def epoch(self, epoch: Epoch, epochs: int, best: bool) -> None:
        if self.json:
            print(json.dumps(epoch.metrics()), flush=True)
            return
        parts = [f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}"]
        for name, score in (("train", epoch.train), ("validation", epoch.validation), ("test", epoch.test)):
            if score is not None:
                accuracy = "" if score.accuracy is None else f" accuracy {score.accuracy:.2%}"
                parts.append(f"{name} loss {score.loss:.4f}{accuracy}")
        parts.append(f"{epoch.images_per_second:,.0f} images/s")
        self.line("  ".join(parts) + ("  *" if best else ""))

    def end(self, path: Path, results: dict[str, Any], failures: list[str]) -> None:
        if self.json:
            print(json.dumps({"run": str(path), "results": results, "unmet": failures}), flush=True)
        elif not self.quiet:
            accuracy = results["test.accuracy"]
            score = f"test accuracy {accuracy:.2%}" if accuracy is not None else f"test loss {results['test.loss']:.4f}"
            print(f"{score} after {results['seconds']:.1f} s; run directory {path}")
        for failure in failures:
            print(f"cnnspec: error: required {failure}", file=sys.stderr)
