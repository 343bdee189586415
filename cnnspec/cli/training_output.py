"""The output of a training: what is trained, a line for each epoch or a bar, and the results."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cnnspec.api import Model
from cnnspec.cli.output import console, visible
from cnnspec.cli.progress import training_bar
from cnnspec.data import Data
from cnnspec.diagnostics import loggable
from cnnspec.duration import duration_text
from cnnspec.memory import bytes_text
from cnnspec.plan import training_footprint
from cnnspec.spec import Spec
from cnnspec.target import KINDS
from cnnspec.train import Epoch
from cnnspec.train import Progress as Moment
from cnnspec.train.fit import Watcher
from cnnspec.train.score import Score

WIDTH = 80  # columns of a line, unless a single name is longer
MEASURED = 5.0  # seconds of steps after which the remaining time is estimated
LONG = 60.0  # remaining seconds from which the estimate is printed


class TrainingOutput:
    """Prints the progress of one training, for people, as JSON, or not at all, as the arguments say."""

    def __init__(self, arguments: argparse.Namespace, spec: Spec) -> None:
        self.json, self.quiet, self.max_steps = arguments.json, arguments.quiet, arguments.max_steps
        self.spec = spec
        self.console = Console(stderr=True, highlight=False)
        self.bar = self.console.is_terminal and not (self.json or self.quiet)

    def line(self, text: str) -> None:
        """Print a line for people, on standard error."""
        if not (self.json or self.quiet):
            self.console.print(visible(text), markup=False, soft_wrap=True)

    def header(self, model: Model, data: Data, path: Path, step: int) -> None:
        """Print the network, the data, the memory, the run directory, and the meaning of the epochs' lines."""
        assert self.spec.train is not None
        footprint = training_footprint(model.graph, self.spec.train.batch_size, self.spec.train)
        parts = [
            f"{self.spec.name}: {KINDS[model.learned.kind]}",
            f"{model.graph.parameter_count:,} parameters",
            data.summary(),
            f"{bytes_text(footprint.total)} to train",
            _workers(model),
            f"writing {path}/",
            *([f"goes on behind step {step:,}"] if step else []),
        ]
        for line in wrapped(parts, "; "):
            self.line(line)
        if self.spec.portable:
            self.line("portable: the kernels of AVX2, which give the same bits on every processor with them")
        for line in _fitted(self.spec, model):
            self.line(line)
        for line in wrapped([_figures_named(model), f"* is the best so far (best.npz): {_best(model, data)}"], "; "):
            self.line(line)

    @contextmanager
    def progress(self, epochs: float) -> Iterator[Watcher | None]:
        """Show a bar over the steps on a terminal; elsewhere print the time left, if that is long."""
        if self.bar:
            with training_bar(self.console, epochs) as watch:
                yield watch
        else:
            yield None if self.json or self.quiet else self._forecast(epochs)

    def _forecast(self, epochs: float) -> Watcher:
        first: list[tuple[float, int]] = []
        is_told: list[bool] = []

        def watch(moment: Moment) -> None:
            if is_told:
                return
            now, step = time.monotonic(), moment.position.step
            if not first:
                first.append((now, step))
            seconds, steps = now - first[0][0], step - first[0][1]
            if seconds >= MEASURED and steps:
                is_told.append(True)
                total = round(moment.steps * epochs)
                left = (min(total, self.max_steps or total) - step) * seconds / steps
                if left >= LONG:
                    self.line(f"about {duration_text(left)} are left, by the pace of the first {steps:,} steps")

        return watch

    def epoch(self, epoch: Epoch, epochs: float, best: bool) -> None:
        """Print the figures of an epoch, and whether it is the best so far."""
        if self.json:
            print(json.dumps(epoch.metrics()), flush=True)
            return
        parts = [f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}"]
        for name, score in (("train", epoch.train), ("validation", epoch.validation), ("test", epoch.test)):
            if score is not None:
                parts.append(f"{name} {_figures(score)}")
        parts.append(f"{epoch.images_per_second:,.0f} images/s" + ("  *" if best else ""))
        for line in wrapped(parts, "  ", indent=len(parts[0]) + 2):
            self.line(line)

    def end(
        self,
        path: Path,
        results: Mapping[str, Any],
        failures: Sequence[str],
        confusion: str,
        report: str,
    ) -> None:
        """Print results, paths and next steps; requirements that were not met are printed as errors."""
        if self.json:
            print(json.dumps({"run": str(path), "results": results, "unmet": failures}), flush=True)
        elif not self.quiet:
            lines = [
                f"{_result(results)} after {duration_text(results['seconds'])}; run directory {path}",
                *([f"most often wrong: {confusion}"] if confusion else []),
                report,
                f"next: cnnspec serve {path}",
                f"      cnnspec predict {path} PICTURES",
            ]
            _print_in_box(lines)
        for failure in failures:
            print(f"cnnspec: error: required {visible(failure)}", file=sys.stderr)


def wrapped(parts: Sequence[str], separator: str, indent: int = 2) -> Iterator[str]:
    """Join parts to lines of at most `WIDTH` columns, and break lines only between parts."""
    line = ""
    for part in parts:
        if line.strip() and len(line) + len(separator) + len(part) > WIDTH:
            yield line + separator.rstrip()
            line = " " * indent + part
        else:
            line += (separator if line else "") + part
    yield line


def confused(score: Score | None, names: Sequence[str]) -> str:
    """Return the classes that were mistaken for one another most often, in words; empty if there are none."""
    if score is None or score.confusion is None or score.kind != "class":
        return ""
    wrong = score.confusion * (1 - np.eye(len(score.confusion), dtype=np.int64))
    if not wrong.any():
        return ""
    true, answered = divmod(int(wrong.argmax()), len(wrong))
    name = [names[i] if i < len(names) else str(i) for i in (true, answered)]
    total = int(score.confusion[true].sum())
    return f"{loggable(name[0])} taken for {loggable(name[1])}, {int(wrong[true, answered]):,} of {total:,}"


def _print_in_box(lines: Sequence[str]) -> None:
    """Print lines, in a box on a terminal."""
    screen = console()
    if screen.is_terminal:
        from rich import box  # imported here, because pipes do not need it
        from rich.panel import Panel
        from rich.text import Text

        screen.print(Panel(Text("\n".join(map(visible, lines))), box=box.ROUNDED, expand=False))
    else:
        print("\n".join(map(visible, lines)))


def _figures(score: Score) -> str:
    """Return a split's loss, the losses of its parts, and its main figure."""
    figures = [f"{score.loss:.4f}"]
    if len(score.parts) > 1:
        figures.append(f"({', '.join(f'{part} {part_score.loss:.4f}' for part, part_score in score.parts.items())})")
    for value, form in ((score.accuracy, ".2%"), (score.mean_iou, ".2%"), (score.mae, ".4g")):
        if value is not None:
            figures.append(f"{value:{form}}")
    return " ".join(figures)


def _figures_named(model: Model) -> str:
    """Return the names of each split's figures."""
    named = {
        "class": "loss and accuracy",
        "shares": "loss and accuracy",
        "classes": "loss and accuracy",
        "mask": "loss, accuracy and mean IoU",
        "values": "loss and mean absolute error",
        "several": "loss and its parts",
    }
    return f"{named.get(model.learned.kind, 'loss')} of each split"


def _best(model: Model, data: Data) -> str:
    """Return the figure by which epochs are compared."""
    if data.validation is None:
        return "lowest training loss, as nothing validates"
    if model.learned.kind == "mask":
        return "highest validation mean IoU"
    decides = model.learned.kind in ("class", "shares", "classes")
    return "highest validation accuracy" if decides else "lowest validation loss"


def _fitted(spec: Spec, model: Model) -> Iterator[str]:
    """Yield the values that the training images determined."""
    target, class_weights = model.target, getattr(spec.train.loss, "class_weights", None) if spec.train else None
    if isinstance(class_weights, (str, Mapping)):
        weights = getattr(model.loss, "class_weights", ())
        names = [*(f"not {name}" for name in target.names if target.kind == "classes"), *target.names]
        names += map(str, range(len(names), len(weights)))
        counted = [f"{name} {weight:.4g}" for name, weight in zip(names, weights, strict=True) if weight != 1]
        yield f"class weights, 1 but for: {', '.join(counted) or 'none'}"
    spread = [
        f"{name} {mean:.4g} and {deviation:.4g}"
        for part in target.parts.values() or (target,)
        for name, mean, deviation in zip(part.names if part.mean else (), part.mean, part.deviation, strict=True)
    ]
    if spread:
        yield f"mean and deviation of the training values, by which they are scaled: {', '.join(spread)}"


def _workers(model: Model) -> str:
    """Return the number of threads, and of several ranks the library by which they exchange data."""
    exchange = model.exchange
    if exchange.size == 1:
        return f"{model.threads} thread{'s' * (model.threads > 1)}"
    each = f"{model.threads} thread{'s' * (model.threads > 1)} each"
    return f"{exchange.size} ranks ({exchange.library}) of {each}"


def _result(results: Mapping[str, Any]) -> str:
    """Return the main figure of the test images, or of other images if those were not tested."""
    split = next(name for name in ("test", "validation", "train") if results.get(f"{name}.loss") is not None)
    for name, form in (("mean_iou", ".2%"), ("mean_average_precision", ".2%"), ("accuracy", ".2%"), ("mae", ".4g")):
        value = results.get(f"{split}.{name}")
        if value is not None:
            return f"{split} {name.replace('_', ' ')} {value:{form}}"
    return f"{split} loss {results[f'{split}.loss']:.4f}"
