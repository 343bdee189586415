"""`report RUN...`: one HTML file about a run, or about the differences between several."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from cnnspec.api import Model
from cnnspec.cli import CLEAN
from cnnspec.cli.arguments import add_data, add_threads
from cnnspec.cli.opening import opened
from cnnspec.cli.output import complain, visible
from cnnspec.cli.outputs import refuse_overwriting
from cnnspec.cli.trained import data_folder, files_of, open_run, run_names, trained_classes
from cnnspec.compare.profile import profile
from cnnspec.data import Data
from cnnspec.diagnostics import DataError, RunError, printable
from cnnspec.files import read_bounded, real_path, rewrite
from cnnspec.report.page import RunContent, Times, comparison_page, run_page
from cnnspec.train.norms import read_norms
from cnnspec.train.records import MOST_SPEC
from cnnspec.train.run import NORMS, ORIGINS, Run

PAGE = "report.html"
TIMED, MOST_TIMED = 5e8, 2e9  # limits of multiply-accumulates for a measured step and for one image
MEASURING = 0.2  # seconds of measurement
WORTH = 1e11  # multiply-accumulates from which a training gets a report by default


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="a run directory; several are compared")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one (default: last)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"default: {PAGE} in the run, or here for several"
    )
    add_data(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print its path."""
    runs = [Run.existing(path) for path in arguments.runs]
    output = arguments.output or (runs[0].path / PAGE if len(runs) == 1 else Path(PAGE))
    refuse_overwriting(output, [path for run in runs for path in files_of(run.path)])
    try:
        page = _page(runs[0], arguments) if len(runs) == 1 else comparison_page(_with_names(runs))
    except ImportError as error:
        raise RunError("a report needs Jinja2", "python -m pip install 'cnnspec[report]'") from error
    try:
        _write(output, page)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror}", "name another file with -o") from error
    print(visible(str(output)))
    return CLEAN


def leaves_report(model: Model, steps: int) -> bool:
    """Tell whether a training of `steps` steps is long enough to leave a report without being asked.

    The limit is a number of multiply-accumulates, `WORTH`, about some seconds' work, so it is the same on every
    machine.
    """
    assert model.spec.train is not None
    work = 3 * model.graph.macs  # forward pass, gradients of the weights, gradients of the inputs
    return _has_extra() and steps * model.spec.train.batch_size * work >= WORTH


def line_on_report(run: Run, *, follows: bool) -> str:
    """Return a line that says where the report will be, or how to get one."""
    if not _has_extra():
        return f"{PAGE} and loss.png need an extra: python -m pip install 'cnnspec[report]'"
    return f"report, which is written last: {run.path / PAGE}" if follows else _choose_pictures(run)


def report_after_training(run: Run, model: Model, data: Data) -> None:
    """Write the report after all results are stored; an error in it does not fail the training."""
    try:
        with model.averaged():
            page = run_page(_read_run(run, real_path(run.path).name), model, data, (), "last.npz", _times(model))
        _write(run.path / PAGE, page)
    except Exception as error:
        complain(f"{PAGE} could not be written: {type(error).__name__}: {error}", _choose_pictures(run))


def _choose_pictures(run: Run) -> str:
    return f"for a report: cnnspec report {run.path}"


def _has_extra() -> bool:
    return find_spec("jinja2") is not None and find_spec("matplotlib") is not None


def _page(run: Run, arguments: argparse.Namespace) -> str:
    model = open_run(run.path, arguments.checkpoint, arguments.threads)
    arguments.data = arguments.data or data_folder(run.path)
    data: Data | None = None
    notes = []
    try:
        data = opened(model.spec, model.graph, arguments, trained_classes(run.path), model.pipeline)
    except DataError as error:
        cure = f" ({error.help})" if error.help else ""
        notes.append(f"The data could not be read, so that nothing about images is here: {error}{cure}")
    content = _read_run(run, real_path(run.path).name)
    return run_page(content, model, data, notes, f"{arguments.checkpoint}.npz", _times(model))


def _times(model: Model) -> Times:
    """Measure the layers briefly, on random images, if a step is short enough for that."""
    settings, work = model.spec.train, 3 * max(model.graph.macs, 1)  # forward pass and two gradients
    if settings is None or work > MOST_TIMED:
        return Times("A step takes too long to measure the layers here: cnnspec bench SPEC does.", {})
    batch = min(settings.batch_size, max(1, int(TIMED // work)))
    measured = profile(model.graph, batch, "train", loss=settings.loss, optimizer=settings.optimizer, seconds=MEASURING)
    times: dict[str, tuple[float, float]] = {}
    for row in measured.rows:
        forward, backward = times.get(row.layer, (0.0, 0.0))
        time = row.seconds / batch * 1e6
        way = (time, 0.0) if row.direction in ("prepare", "forward") else (0.0, time)
        times[row.layer] = forward + way[0], backward + way[1]
    words = f"Times are of one thread, of an image in a training step of {batch} images, on the machine of this report."
    return Times(f"{words} A layer without one is computed together with another one.", times)


def _with_names(runs: list[Run]) -> list[RunContent]:
    """Return runs with the name of their folder, or with their path if two folders have the same name."""
    return [_read_run(run, name) for run, name in zip(runs, run_names(runs), strict=True)]


def _write(path: Path, page: str) -> None:
    """Write a page; bytes in names that are no text are written as escapes."""
    rewrite(path, page.encode("utf-8", "backslashreplace"))


def _origins(path: Path) -> str:
    """Return the text of a run's file of origins, which nothing relies on; empty if it cannot be read."""
    try:
        return read_bounded(path, MOST_SPEC).decode()
    except (OSError, ValueError):
        return ""


def _read_run(run: Run, name: str) -> RunContent:
    name = printable(name)
    return RunContent(
        name,
        *run.checked(),
        run.spec(),
        _origins(run.path / ORIGINS),
        read_norms(run.path / NORMS),
    )
