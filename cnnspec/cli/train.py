"""`train SPEC`: read, check, compile, train, and leave a run directory."""

from __future__ import annotations

import argparse
import difflib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from math import ceil, floor
from pathlib import Path
from typing import Any

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.cli import CLEAN, FAILED, USAGE
from cnnspec.cli.arguments import add_data, add_spec, add_threads, amount, count, read_spec, spec_of
from cnnspec.cli.opening import opened
from cnnspec.cli.output import complain, note, visible
from cnnspec.cli.ranks import check_alike, check_batch, on_all_ranks, share_processors
from cnnspec.cli.repeat import results_text, variants
from cnnspec.cli.report import leaves_report, line_on_report, report_after_training
from cnnspec.cli.trained import (
    computable,
    data_folder,
    folder_of,
    folders,
    load_spec,
    trained_classes,
    with_root,
)
from cnnspec.cli.training_output import TrainingOutput, confused
from cnnspec.cli.versions import differences, latest, versions
from cnnspec.data import Data
from cnnspec.diagnostics import RunError, ThreadsError
from cnnspec.diagnostics.record import first_line
from cnnspec.diagnostics.silence import unsilenced
from cnnspec.graph import Graph, build
from cnnspec.graph.render import render
from cnnspec.lints import lint
from cnnspec.optim import TrainSettings
from cnnspec.plan.memory.requirement import require_training_memory
from cnnspec.plugins import keep, recorded
from cnnspec.ranks import SINGLE_RANK, Exchange
from cnnspec.ranks.launch import launched
from cnnspec.report import Events, draw_curves
from cnnspec.signals import Interruption
from cnnspec.spec import Spec
from cnnspec.train import Epoch, Run, fit
from cnnspec.train import Progress as Moment
from cnnspec.train.checkpoint import LAST
from cnnspec.train.fit import Position, Watcher
from cnnspec.train.follow import follow, share_start
from cnnspec.train.origin import comparable, origin
from cnnspec.train.requirements import check_figures, unmet
from cnnspec.train.run import SPEC
from cnnspec.train.session import Session
from cnnspec.train.transfer import Transfer, transfer

CURVES, EVENTS = "loss.png", "tensorboard"
REDRAWN = 10.0  # seconds between drawings of the curves; the last epoch is always drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser, required=False, computes=True)
    add_data(parser)
    add_threads(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the run directory is made (default: runs)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on behind a run directory's last checkpoint")
    parser.add_argument("--max-steps", type=amount, metavar="N", help="end after that many steps since the start")
    parser.add_argument("--max-epochs", type=amount, metavar="N", help="or after that many epochs, as if interrupted")
    parser.add_argument(
        "--portable", action="store_true", help="compute the same bits on every processor with AVX2: portable: true"
    )
    parser.add_argument("--no-test", action="store_true", help="leave the test images alone: nothing is known of them")
    parser.add_argument("--no-curves", action="store_true", help=f"draw no {CURVES}")
    parser.add_argument("--limit", type=amount, metavar="N", help="train on that many images: data.train.limit")
    parser.add_argument(
        "--folds", type=count, metavar="K", help="train K times, each time with another K-th of the images to validate"
    )
    parser.add_argument("--seeds", type=count, metavar="N", help="train with N seeds, from the spec's on")
    parser.add_argument("--tensorboard", action="store_true", help="write event files to RUN/tensorboard (an extra)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print one JSON object per epoch, and one at the end")


def run(arguments: argparse.Namespace) -> int:
    """Train; return 0, 4 if a requirement of `require` is not met, 130 or 143 if a signal ended the training."""
    if arguments.resume is not None and arguments.out is not None:
        complain("--resume goes on in the run's own directory: --out says another", "leave one of the two out")
        return USAGE
    if arguments.limit is not None:
        arguments.overrides.append(f"data.train.limit={arguments.limit}")
    if arguments.portable:
        arguments.overrides.append("portable=true")
    if not (arguments.folds or arguments.seeds):
        cure = "the last checkpoint is whole: use --resume"
        return on_all_ranks(lambda exchange: _train(arguments, exchange)[0], lambda: _spec(arguments), cure)
    if launched()[1] > 1:
        if launched()[0] == 0:
            complain("--folds and --seeds are several trainings, of one process each", "leave mpiexec out")
        return USAGE
    statuses, paths, rows = [], [], []
    for variant in variants(_spec(arguments), arguments):
        status, path = _train(variant)
        results = Run.existing(path).about().get("results")
        if status not in (CLEAN, FAILED) or results is None:
            return status
        statuses.append(status)
        paths.append(path)
        rows.append(results)
    if not arguments.quiet:
        print(results_text(paths, rows, as_json=arguments.json))
    return max(statuses)


def _train(arguments: argparse.Namespace, exchange: Exchange = SINGLE_RANK) -> tuple[int, Path]:
    """Train once; return the exit code and the run directory, which the first rank makes."""
    spec = _spec(arguments)
    if spec.data is None or spec.train is None:
        missing = "data" if spec.data is None else "train"
        raise RunError(
            f"{spec.path} has no {missing} section, so there is nothing to train with",
            "add data: {source: digits} and train: {epochs: 10}",
        )
    graph = checked(spec)
    check_batch(exchange, spec.train.batch_size)
    if arguments.resume is None and not arguments.quiet:
        _warn(spec, graph)
        if spec.sweep is not None:
            note(f"train leaves the sweep section alone and takes the spec's own values: cnnspec sweep {spec.path}")
    require_training_memory(graph, spec.train)
    data = opened(spec, graph, arguments, trained_classes(arguments.resume) if arguments.resume else ())
    if arguments.max_epochs is not None:
        steps = arguments.max_epochs * ceil(len(data.train) / spec.train.batch_size)
        arguments.max_steps = min(steps, arguments.max_steps or steps)
    check_alike(exchange, spec, graph, data, arguments)
    model = Model(spec, graph, threads=share_processors(exchange, arguments.threads), exchange=exchange)
    model.adopt(data.target)
    check_figures(spec, model.learned)
    if arguments.tensorboard and find_spec("tensorboardX") is None:
        raise RunError("event files need tensorboardX", "python -m pip install 'cnnspec[tensorboard]'")
    if exchange.rank:
        return _follow(model, data, arguments), Path()
    initial = transfer(model) if arguments.resume is None else None  # where that fails, no run is left
    run = Run.existing(arguments.resume) if arguments.resume else Run.new(arguments.out or Path("runs"), spec.name)
    settings = spec.train.checkpoint
    run.keep, run.epochs = settings.keep, settings.every[0] if settings.every[1] == "epochs" else 1
    run.origin = origin(spec, graph, data.checksums)
    try:
        with run.held():
            if arguments.resume is None:
                about, position = _begin(run, model, data, initial, arguments), Position()
            else:
                about, position = _resume(run, model, data, arguments)
            if exchange.size > 1:
                about["ranks"] = exchange.size
                share_start(model, (position, run.history()))
            return _TrainVerb(arguments, spec, model, data, run, about).run(position), run.path
    except OSError as error:  # the data was read before: only the run directory is left
        raise RunError(f"cannot write {error.filename or run.path}: {error.strerror}") from error


def _begin(
    run: Run, model: Model, data: Data, initial: Transfer | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Write the first files of a new run; return the content of its run.json."""
    spec, folder = model.spec, folder_of(model.spec, arguments)
    kept = keep(spec.plugins, run.path)
    about = _run_record(spec, model, data, arguments)
    about |= {"plugins": recorded(spec.plugins, kept), **folders(folder, run.path)}
    about["origin"] = run.origin["spec"]
    if initial is not None:
        about["init"] = initial.record()
        for line in () if arguments.quiet or arguments.json else initial.lines():
            print(visible(line))
    run.begin(model, render(replace(with_root(spec, folder, run.path), plugins=kept), model.graph), about)
    run.keep_origins(render(spec, model.graph, origins=True))
    return about


def _resume(run: Run, model: Model, data: Data, arguments: argparse.Namespace) -> tuple[dict[str, Any], Position]:
    """Restore a run's last checkpoint into the model; return the content of its run.json and where training goes on."""
    spec, folder = model.spec, folder_of(model.spec, arguments)
    assert spec.train is not None
    about, position = run.about(), run.resume(model, spec.train.steps(len(data.train)))
    for text in run.notes:
        note(text)
    _note_part(about, position)
    about |= folders(folder, run.path)
    kept = keep(spec.plugins, run.path)
    run.rewrite(render(replace(with_root(spec, folder, run.path), plugins=kept), model.graph))
    return about, position


def _follow(model: Model, data: Data, arguments: argparse.Namespace) -> int:
    try:
        follow(model, data, arguments.max_steps, tests=not arguments.no_test)
    except Interruption as interruption:
        return 128 + interruption.number
    return CLEAN


def _warn(spec: Spec, graph: Graph) -> None:
    """Print the warnings that `validate` would print, on standard error."""
    for warning in unsilenced([*spec.warnings, *lint(spec, graph)], spec.path):
        print(visible(first_line(warning) + (f"\nhelp: {warning.help}" if warning.help else "")), file=sys.stderr)


def _spec(arguments: argparse.Namespace) -> Spec:
    """Return the spec to train; for a resumed run it is the run's own, perhaps with more epochs.

    StartError if it is portable, and this process does not compute at the portable level.
    """
    if arguments.resume is None:
        if arguments.spec is None:
            complain("train needs a SPEC, or --resume RUN", "see cnnspec train --help")
            raise SystemExit(USAGE)
        return computable(spec_of(arguments))
    run = Run.existing(arguments.resume)
    arguments.data = arguments.data or data_folder(run.path)
    stored = run.path / SPEC
    before = computable(load_spec(run.path))
    after = read_spec(arguments.spec or stored, arguments)
    old, new = (comparable(spec, build(spec)).splitlines() for spec in (before, after))
    if old != new:
        changes = difflib.unified_diff(old, new, "the run", "given", lineterm="", n=0)
        shown = "\n".join(line for line in changes if not line.startswith("@@"))
        cure = f"only train.epochs may grow; train: {{init: {{from: {arguments.resume}}}}} starts anew from its weights"
        raise RunError(f"{arguments.resume} was trained with another spec:\n{shown}", cure)
    if before.train and after.train and after.train.epochs < before.train.epochs:
        raise RunError(
            f"train.epochs: expected at least {before.train.epochs}, got {after.train.epochs}", "only more is possible"
        )
    if before.train and after.train:
        _note_rate(before.train, after.train)
    return after


def _note_rate(before: TrainSettings, after: TrainSettings) -> None:
    """Print how more epochs change the learning rate, if the schedule depends on the number of epochs."""
    old, new = before.epochs, after.epochs
    following = after.schedule.factor(old, new)
    if abs(following - after.schedule.factor(old, old)) > 1e-12:
        rate = after.optimizer.learning_rate * following
        note(
            f"train.epochs {old} to {new} stretches the schedule {after.schedule.type_name}: "
            f"epoch {floor(old) + 1} starts again at a learning rate of {rate:.2g}"
        )


class _TrainVerb:
    """A training in progress: its loop, its output to the terminal, and the files of its run."""

    def __init__(
        self, arguments: argparse.Namespace, spec: Spec, model: Model, data: Data, run: Run, about: dict[str, Any]
    ) -> None:
        assert spec.train is not None
        self.arguments, self.spec, self.model, self.data, self.directory, self.about = (
            arguments,
            spec,
            model,
            data,
            run,
            about,
        )
        self.epochs = spec.train.epochs
        self.output = TrainingOutput(arguments, spec)
        self.session = Session(run, model, about)

    def run(self, position: Position) -> int:
        path, model, started = self.directory.path, self.model, time.perf_counter()
        self.output.header(model, self.data, path, position.step)
        self.about.pop("stopped", None)
        try:
            with self.session.signals(), self.output.progress(self.epochs) as show, self.events() as log:
                epoch = self.loop(position, show, log)
        except ThreadsError as error:
            if self.arguments.resume is None and not self.session.trace:
                self.directory.remove()
            else:
                self.stopped(str(error))
            raise
        except RunError as error:
            self.stopped(str(error))
            raise
        except Interruption as interruption:
            self.stopped(f"interrupted by {interruption}")
            print(visible(f"cnnspec: {interruption}: go on with: cnnspec train --resume {path}"), file=sys.stderr)
            return 128 + interruption.number
        except KeyboardInterrupt:
            if model.exchange.size > 1:  # the other ranks continue until they are told
                raise
            self.stopped("interrupted at once")
            print(visible(f"cnnspec: interrupted at once; the last checkpoint is {path / LAST}"), file=sys.stderr)
            return 128 + (self.session.signal or signal.SIGINT)
        if epoch is None:
            self.output.line(f"nothing is left to do behind step {position.step:,}; for more: --set train.epochs=N")
        else:
            self.directory.finish(model, epoch.position)
        row = self.directory.latest
        if row is not None and (epoch is not None or "results" not in self.about):
            # The results are also missing if a training was killed right after its last checkpoint.
            self.draw()
            self.about["unmet"] = unmet(self.spec.require, row)
            self.about["results"] = {**row, "seconds": round(time.perf_counter() - started, 3)}
            self.directory.describe(self.about)
        if "results" not in self.about:
            return CLEAN
        failures, names = self.about["unmet"], self.data.class_names or model.target.names
        confusion = confused(epoch.test if epoch is not None else None, names)
        follows = epoch is not None and leaves_report(model, epoch.step)
        report = line_on_report(self.directory, follows=follows)
        self.output.end(path, self.about["results"], failures, confusion, report)
        if follows:
            report_after_training(self.directory, model, self.data)
        return FAILED if failures else CLEAN

    def stopped(self, why: str) -> None:
        """Record why the training ended before its last epoch, if the disk can be written."""
        self.about["stopped"] = why
        self.about.pop("results", None)
        with suppress(RunError):
            self.directory.describe(self.about)

    @contextmanager
    def events(self) -> Iterator[Callable[[dict[str, Any]], None] | None]:
        """Yield a function that writes TensorBoard events, with the rows so far written; None if none are wanted."""
        if not self.arguments.tensorboard:
            yield None
            return
        with closing(Events(self.directory.path / EVENTS)) as events:
            for row in self.directory.history():
                events.add(row)
            yield events.add

    def loop(
        self, position: Position, show: Watcher | None, log: Callable[[dict[str, Any]], None] | None
    ) -> Epoch | None:
        """Train the remaining epochs and return the last one; None if none remains."""

        def watch(progress: Moment) -> None:
            self.session.watch(progress)
            if show is not None:
                show(progress)

        epoch, drawn = None, time.monotonic()
        passes = fit(
            self.model,
            self.data,
            watch=watch,
            start=position,
            history=self.directory.history(),
            max_steps=self.arguments.max_steps,
            tests=not self.arguments.no_test,
            asked=self.session.asked,
        )
        for epoch in passes:
            self.about.pop("results", None)  # results of the training that is resumed
            self.directory.describe(self.about)
            best = self.directory.record(self.model, epoch)
            if log is not None:
                log(epoch.metrics())
            self.output.epoch(epoch, self.epochs, best)
            if time.monotonic() - drawn > REDRAWN:
                drawn = time.monotonic()
                self.draw()
            self.session.between_epochs(epoch.position, self.epochs)
        return epoch

    def draw(self) -> None:
        """Draw the curves of the epochs so far."""
        if self.arguments.no_curves:
            return
        # The picture needs the report extra; without it the figures are in metrics.csv all the same.
        with suppress(ImportError):
            try:
                draw_curves(self.directory.history(), self.directory.path / CURVES, self.spec.name)
            except RunError as error:  # another program wrote to the log, which the training never reads
                note(f"no curves: {error}")


def _note_part(about: dict[str, Any], position: Position) -> None:
    """Record and print that a training continues with other versions than before."""
    here, before = versions(), latest(about)
    if before == here:
        return
    for text in differences(before, here):
        note(f"{text}: from step {position.step + 1:,} on, other bits may come out than without the break")
    part = {"step": position.step, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": here}
    about.setdefault("parts", []).append(part)


def _run_record(spec: Spec, model: Model, data: Data, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": spec.name,
        "command": shlex.join(["cnnspec", *sys.argv[1:]]),
        "spec": str(arguments.spec),
        "seed": spec.seed,
        "threads": model.threads,
        "versions": versions(),
        "data": dict(data.checksums),
        **data.pipeline.record(),
        "images": {name: len(split) for name, split in data.splits.items()},
        "parameters": model.graph.parameter_count,
        "macs": model.graph.macs,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
