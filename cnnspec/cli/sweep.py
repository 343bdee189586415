"""`sweep SPEC`: trains a spec with many values, prints a table of the results, and tests the best once."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table

from cnnspec.check import checked
from cnnspec.cli import CLEAN, FAILED, USAGE
from cnnspec.cli.arguments import add_data, add_spec, count, spec_of
from cnnspec.cli.executors import Dask, Executor, Processes
from cnnspec.cli.output import complain, console, note, visible
from cnnspec.cli.ranks import check_same, on_all_ranks
from cnnspec.cli.trained import computable, folder_of, with_root
from cnnspec.cli.trainings import Program, settings
from cnnspec.diagnostics import PluginError, RunError, SpecError, loggable, printable
from cnnspec.files import replacing
from cnnspec.graph import build
from cnnspec.graph.render import render
from cnnspec.lints.redundant import unused_ids
from cnnspec.lock import locked
from cnnspec.plugins import keep
from cnnspec.ranks import Exchange
from cnnspec.ranks.launch import launched
from cnnspec.report.sweep import sweep_page
from cnnspec.signals import Ending, Interruption, handling
from cnnspec.spec import Spec, loads
from cnnspec.spec.model import written
from cnnspec.spec.sweep import Sweep
from cnnspec.sweep.journal import Journal, Outcome, Task
from cnnspec.sweep.points import check_library
from cnnspec.sweep.table import best_of, importance, rows, table_text
from cnnspec.sweep.trials import Trial, course, planned_epochs, tasks_of
from cnnspec.train.origin import comparable

JOURNAL, TABLE, PAGE, BEST = "journal.jsonl", "table.csv", "sweep.html", "best.yaml"
BEST_TRIAL = 0  # the number of the task that trains the best point again, and tests it
NO_SWEEP = "sweep=null"  # an override: a spec without its sweep is read faster, as no value of that is tried
WIDEST = 1000  # columns: a table is never cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.epilog = "A sweep that was interrupted goes on with the same command: what is trained is not trained again."
    add_spec(parser, computes=True)
    add_data(parser)
    parser.add_argument("--jobs", type=count, metavar="N", help="trainings at a time (default: one a processor)")
    parser.add_argument(
        "--threads", type=count, metavar="N", help="threads of each (default: the processors divided among the jobs)"
    )
    parser.add_argument(
        "--executor",
        choices=("processes", "dask", "mpi"),
        default="processes",
        help="what runs trainings (default: processes); mpi: the ranks of mpiexec -n 5 python -m cnnspec sweep ...",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://host:8786 (default: one of this machine)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the sweep's folder (default: runs/NAME-sweep)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    """Run the rest of a sweep; return 4 if no trial could be trained, or the best misses what the spec requires."""
    rank, ranks = launched()
    wrong = _wrong(arguments, ranks)
    if wrong is not None:
        if rank == 0:
            complain(*wrong)
        return USAGE
    if arguments.executor == "mpi":
        cure = "the journal is whole: the same command goes on"
        return on_all_ranks(partial(_on_rank, arguments), partial(_opened, arguments), cure)
    if arguments.executor == "dask" and find_spec("distributed") is None:
        raise RunError("--executor dask needs distributed", "python -m pip install 'cnnspec[dask]'")
    spec, sweep = _opened(arguments)
    return _sweep(arguments, spec, sweep, (Dask if arguments.executor == "dask" else Processes)(arguments, sweep))


def _wrong(arguments: argparse.Namespace, ranks: int) -> tuple[str, str] | None:
    """Return the error in the arguments and its cure; None if they are valid."""
    if str(arguments.spec) == "-":
        return "a sweep reads its spec many times, and standard input is read once", "name a file"
    if arguments.scheduler is not None and arguments.executor != "dask":
        return "--scheduler is the address of a Dask cluster", "say --executor dask too"
    if arguments.executor == "mpi" and ranks == 1:
        return (
            "--executor mpi gives trainings to other ranks, and this process is alone",
            f"mpiexec -n 5 python -m cnnspec sweep {arguments.spec} --executor mpi trains four at a time; "
            "mpiexec is in the extra: python -m pip install 'cnnspec[mpi]'",
        )
    if arguments.executor != "mpi" and ranks > 1:
        return f"a launcher has started this sweep {ranks} times", "say --executor mpi, or leave the launcher out"
    if arguments.jobs is not None and (arguments.executor == "mpi" or arguments.scheduler is not None):
        who = "each rank but the first" if arguments.executor == "mpi" else "each thread of the cluster's workers"
        return f"{who} has one training at a time: --jobs has no say", "leave --jobs out"
    return None


def _opened(arguments: argparse.Namespace) -> tuple[Spec, Sweep]:
    """Return the checked spec and its sweep; StartError if it is portable and the process has to be restarted."""
    spec = computable(spec_of(arguments))
    checked(spec)
    sweep = _section(spec)
    check_library(sweep)
    return spec, sweep


def _on_rank(arguments: argparse.Namespace, exchange: Exchange) -> int:
    """Run the sweep on the first rank, or the trainings that it hands out on any other rank."""
    from cnnspec.cli.mpi_ranks import MpiRanks, serve  # needs mpi4py, an extra
    from cnnspec.ranks.mpi import MpiExchange  # needs mpi4py too

    assert isinstance(exchange, MpiExchange)
    spec, sweep = _opened(arguments)
    check_same(exchange, spec, build(spec), {})
    if exchange.rank:
        serve(exchange)
        return CLEAN
    with MpiRanks(exchange, arguments, sweep) as ranks:
        return _sweep(arguments, spec, sweep, ranks)


def _sweep(arguments: argparse.Namespace, spec: Spec, sweep: Sweep, executor: Executor) -> int:
    folder = arguments.out or Path("runs") / f"{spec.name}-sweep"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ending = Ending()
        with handling(ending.ask), _locked(folder):
            return _SweepVerb(arguments, spec, sweep, folder, executor, ending).run()
    except Interruption as interruption:
        words = shlex.join([*executor.starter, "cnnspec", *sys.argv[1:]])
        print(visible(f"cnnspec: {interruption}: go on with the same command: {words}"), file=sys.stderr)
        return 128 + interruption.number
    except OSError as error:
        raise RunError(f"cannot write {error.filename or folder}: {error.strerror}") from error


def _section(spec: Spec) -> Sweep:
    for name, example in (
        ("data", "data: {source: digits, validation: {fraction: 0.2}}"),
        ("train", "train: {epochs: 10}"),
        ("sweep", "sweep: {values: {train.batch_size: [32, 64]}}"),
    ):
        if getattr(spec, name) is None:
            raise RunError(f"{spec.path} has no {name} section", f"add {example}")
    assert spec.sweep is not None
    return spec.sweep


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with locked(folder, wait=False):
            yield
    except BlockingIOError as error:
        raise RunError(f"another process runs the sweep in {folder}", "wait for it, or stop it") from error


class _ChangedError(RunError):
    """The spec was changed while its sweep ran."""


class _SweepVerb:
    """A sweep in progress: its trainings, its output, and its files."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        spec: Spec,
        sweep: Sweep,
        folder: Path,
        executor: Executor,
        ending: Ending,
    ) -> None:
        assert spec.train is not None
        self.arguments, self.spec, self.sweep, self.folder = arguments, spec, sweep, folder
        self.executor, self.ending, self.epochs = executor, ending, spec.train.epochs
        self.about = _fixed_record(spec, sweep)
        self.journal = Journal(folder / JOURNAL, self.about)
        self.points: dict[int, Mapping[str, Any]] = {}
        self.planned = planned_epochs(sweep, self.epochs) + sweep.seeds * self.epochs
        self.measured: list[tuple[float, float]] = []  # epochs and seconds of the trainings of this process

    def run(self) -> int:
        run, trainings = self.executor, self.sweep.count * self.sweep.seeds
        self.say(
            f"{self.spec.name}: {self.sweep.count} trials by {self.sweep.method}, {trainings} trainings, "
            f"{run.jobs} at a time{run.where} with {run.threads} thread{'s' * (run.threads > 1)}; "
            f"writing {self.folder}/"
        )
        if self.journal.outcomes:
            self.say(f"goes on: {len(self.journal.outcomes)} trainings are in {JOURNAL}")
        trials: list[Trial] = []
        for trials in course(self.sweep, self.spec.seed, self.epochs, self.train):
            self.write(TABLE, table_text(self.sweep, trials))
        best = best_of(self.sweep, trials)
        if best is None:
            complain(f"none of {len(trials)} trials could be trained; the first: {trials[0].error()}")
            return FAILED
        tested = self.test(best)
        self.draw(trials)
        self.tell(trials, best, tested)
        return FAILED if any(outcome.error for outcome in tested.values()) else CLEAN

    def train(self, trials: Sequence[Trial], epochs: int | None) -> dict[Task, Outcome]:
        """Train some trials with every seed, except those already in the journal, and return all outcomes."""
        self.check_unchanged()
        for trial in trials:
            self.journal.check_point(trial.number, trial.point)
            self.points[trial.number] = trial.point
        tasks = [task for trial in trials for task in tasks_of(self.sweep, self.spec.seed, trial.number, epochs)]
        left = [self.program(task) for task in tasks if task not in self.journal.outcomes]
        try:
            self.executor.run(left, self.done, self.ending)
        except _ChangedError:
            for program in left:
                if program.task not in self.journal.outcomes:  # it may have been trained by the changed spec
                    shutil.rmtree(program.folder, ignore_errors=True)
            raise
        for path in self.folder.glob("trials/*/*.npz") if epochs is None else ():
            path.unlink()  # the best is trained again, so these weights are not needed
        return {task: self.journal.outcomes[task] for task in tasks}

    def check_unchanged(self, *overrides: str) -> None:
        """Raise _ChangedError if the spec, with overrides, is another one than when the sweep began."""
        try:
            unchanged = _fixed_record(self.spec_with(*overrides), self.sweep) == self.about
        except (SpecError, PluginError, OSError):
            unchanged = False
        if not unchanged:
            raise _ChangedError(
                f"{self.spec.path} was changed while its sweep ran", "put it back, or begin a new sweep"
            )

    def spec_with(self, *overrides: str) -> Spec:
        """Read the spec with overrides behind those of the command line."""
        given = argparse.Namespace(**vars(self.arguments))
        given.overrides = [*self.arguments.overrides, *overrides]
        return spec_of(given)

    def program(self, task: Task) -> Program:
        name = f"trial-{task.trial}-seed-{task.seed}"
        values = {path: json.dumps(value) for path, value in self.points[task.trial].items()}
        values |= {"sweep": "null", "require": "null", "name": name, "seed": str(task.seed)}
        shared = ["--quiet", "--no-test", "--no-curves", "--threads", str(self.executor.threads), *self.sources()]
        shared += [] if task.epochs is None else ["--max-epochs", str(task.epochs)]
        words = [str(self.arguments.spec), *(w for o in self.arguments.overrides for w in ("--set", o))]
        words += [*settings(values), *(w for plugin in self.arguments.plugins for w in ("--plugin", str(plugin)))]
        words += ["--allow-outside"] if self.arguments.allow_outside else []
        trials = self.folder / "trials"
        return Program(task, [*words, *shared, "--out", str(trials)], shared, trials / name)

    def sources(self) -> list[str]:
        arguments = ["--data", str(self.arguments.data)] if self.arguments.data else []
        return [*arguments, "--download"] if self.arguments.download else arguments

    def done(self, task: Task, outcome: Outcome) -> None:
        """Store an outcome in the journal, and print it."""
        if task.trial != BEST_TRIAL:  # the best is trained from a file of the sweep's own
            self.check_unchanged(NO_SWEEP)
        metric = self.sweep.metric
        if not outcome.error and metric not in outcome.figures:
            outcome = replace(outcome, error=f"{metric} is no number after the last epoch")
        self.journal.add(task, self.points[task.trial], outcome)
        self.measured.append((outcome.epochs, outcome.seconds))
        seed = f", seed {task.seed}" if self.sweep.seeds > 1 else ""
        subject = "the best" if task.trial == BEST_TRIAL else f"trial {task.trial} of {self.sweep.count}"
        result = f"{metric} {outcome.figures[metric]:.4g}" if metric in outcome.figures else f"failed: {outcome.error}"
        cut = "" if task.epochs is None else f" after {task.epochs} epoch{'s' * (task.epochs > 1)}"
        self.say(f"{subject}{seed}: {result}{cut}; {self.left()}")

    def left(self) -> str:
        """Return an estimate of the time left, by the mean duration of an epoch so far."""
        reached: dict[tuple[int, int], float] = {}
        for task, outcome in self.journal.outcomes.items():
            key = (task.trial, task.seed)
            ended = self.epochs if outcome.error and task.epochs is None else outcome.epochs
            reached[key] = max(ended, reached.get(key, 0.0))
        epochs, seconds = (sum(part) for part in zip(*self.measured, strict=True))
        rest = max(0.0, self.planned - sum(reached.values())) * seconds / max(epochs, 1.0) / self.executor.jobs
        return f"about {rest / 60:.0f} min left" if rest >= 90 else f"about {rest:.0f} s left"

    def test(self, best: Trial) -> dict[Task, Outcome]:
        """Write the spec of the best trial, then train and test it with every seed."""
        self.journal.check_point(BEST_TRIAL, best.point)
        self.points[BEST_TRIAL] = best.point
        self.check_unchanged(NO_SWEEP)
        spec = self.spec_with(*(f"{path}={json.dumps(value)}" for path, value in best.point.items()), NO_SWEEP)
        plugins = keep(spec.plugins, self.folder)
        stored = replace(with_root(spec, folder_of(spec, self.arguments), self.folder), plugins=plugins)
        path = self.folder / BEST
        text = render(stored, checked(spec))
        rendered = loads(text, str(path), allow_plugins=True)
        unused = any(unused_ids(rendered, checked(rendered)))
        self.write(BEST, self.origin(best) + ("# cnnspec: ignore-file[unused-id]\n" if unused else "") + text)
        programs = []
        tasks = tasks_of(self.sweep, self.spec.seed, BEST_TRIAL, None)
        for task in tasks:
            name = "best" if self.sweep.seeds == 1 else f"best-seed-{task.seed}"
            values = settings({"name": name, "seed": str(task.seed)})
            shared = ["--quiet", "--threads", str(self.executor.threads_of_best)]
            shared += self.sources()
            words = [str(path), *values, *shared, "--out", str(self.folder)]
            programs.append(Program(task, words, shared, self.folder / name))
        left = [program for program in programs if program.task not in self.journal.outcomes]
        self.executor.run(left, self.done, self.ending)
        return {task: self.journal.outcomes[task] for task in tasks}

    def origin(self, best: Trial) -> str:
        """Return the comment above the best spec: the sweep it comes from, and its result."""
        lines = [
            f"The best of the sweep of {self.arguments.spec}: trial {best.number} of {self.sweep.count}, by "
            f"{self.sweep.method},",
            f"{self.sweep.metric} {_figure(best.mean(self.sweep.metric), best.spread(self.sweep.metric))}. It has",
            *(f"  {path}: {written(value)}" for path, value in best.point.items()),
        ]
        return "".join(f"# {printable(line)}\n" for line in lines)

    def write(self, name: str, text: str) -> None:
        with replacing(self.folder / name) as file:
            file.write(text.encode())

    def draw(self, trials: Sequence[Trial]) -> None:
        try:
            self.write(PAGE, sweep_page(self.spec.name, self.sweep, trials))
        except ImportError:
            note(f"{PAGE} needs Jinja2: python -m pip install 'cnnspec[report]'")

    def say(self, text: str) -> None:
        if not (self.arguments.quiet or self.arguments.json):
            print(visible(text), file=sys.stderr, flush=True)

    def tell(self, trials: Sequence[Trial], best: Trial, tested: Mapping[Task, Outcome]) -> None:
        """Print the results of the sweep."""
        metric, shares = self.sweep.metric, importance(self.sweep, trials)
        figures = _mean_figures(tested)
        for task, outcome in tested.items():
            if outcome.error:
                complain(f"the best, seed {task.seed}: {outcome.error}")
        if self.arguments.json:
            record: dict[str, Any] = {"folder": str(self.folder), "metric": metric, "trials": rows(self.sweep, trials)}
            record |= {"importance": shares, "best": best.number, "figures": figures}
            print(json.dumps(record))
            return
        if self.arguments.quiet:
            return
        console(width=WIDEST).print(_table(self.sweep, trials))
        shares_text = ", ".join(
            f"{path} {'unknown' if share is None else f'{share:.0%}'}" for path, share in shares.items()
        )
        print(visible(f"importance, alone: {shares_text}"))
        names = [name for name in ("test.accuracy", "test.mean_iou", "test.mae", "test.loss") if name in figures]
        test = ", ".join(f"{name} {_figure(figures[name]['mean'], figures[name].get('spread'))}" for name in names)
        print(visible(f"best: trial {best.number}, {test}; {self.folder / BEST}, {self.folder / TABLE}"))


def _fixed_record(spec: Spec, sweep: Sweep) -> dict[str, Any]:
    """Return what must be unchanged for a sweep to continue: the spec without its sweep, and the sweep."""
    assert spec.train is not None
    return {"spec": comparable(spec, build(spec)), "epochs": spec.train.epochs, "sweep": repr(spec.sweep or sweep)}


def _mean_figures(tested: Mapping[Task, Outcome]) -> dict[str, dict[str, float]]:
    """Return the figures of the best trial: the mean over the seeds, and the spread if there are several."""
    trial = Trial(BEST_TRIAL, {}, [[replace(outcome, error="") for outcome in tested.values()]])
    statistics_of = {}
    for name in dict.fromkeys(name for outcome in tested.values() for name in outcome.figures):
        mean, spread = trial.mean(name), trial.spread(name)
        assert mean is not None
        statistics_of[name] = {"mean": mean} | ({} if spread is None else {"spread": spread})
    return statistics_of


def _figure(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4g}" if spread is None else f"{mean:.4g} +- {spread:.2g}"


def _table(sweep: Sweep, trials: Sequence[Trial]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("trial", *sweep.values, "epochs", sweep.metric):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows(sweep, trials):
        values = [loggable(written(row["values"][path])) for path in sweep.values]
        figure = _figure(row["mean"], row["spread"])
        table.add_row(str(row["trial"]), *values, f"{row['epochs']:g}", figure, loggable(row["error"]))
    return table
