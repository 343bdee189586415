"""`runs list` and `runs compare A B`: tables of trainings."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from cnnspec.cli.output import console, visible
from cnnspec.cli.sparkline import sparkline
from cnnspec.cli.trained import run_names
from cnnspec.diagnostics import RunError, loggable
from cnnspec.duration import duration_text
from cnnspec.report import draw_comparison
from cnnspec.train.checkpoint import LAST
from cnnspec.train.run import ABOUT, Run

WIDEST = 1000  # columns: a table is never cut, also in a pipe
LONGEST = 16  # blocks of the loss curve in a list
FIGURES = ("train.loss", "train.accuracy", "validation.loss", "validation.accuracy", "test.loss", "test.accuracy")

WORTH = (  # optional columns of a list, the most important first
    "test.accuracy",
    "validation.accuracy",
    "validation.loss",
    "test.loss",
    "loss, by epoch",
    "train.accuracy",
    "train.loss",
    "seed",
    "weights",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    actions = parser.add_subparsers(dest="action", metavar="list|compare", required=True)
    listing = actions.add_parser("list", help="every run in a folder, the newest last")
    listing.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    comparing = actions.add_parser("compare", help="the figures of two or more runs, and their curves")
    comparing.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    comparing.add_argument("-o", "--output", type=Path, metavar="PNG", help="draw the curves into this picture")
    for action in (listing, comparing):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """List the runs in a folder, or compare those named."""
    if arguments.action == "list":
        if not arguments.folder.is_dir():
            raise RunError(f"no folder {arguments.folder}", "name the one that --out of `cnnspec train` had")
        paths = sorted(filter(_may_be_run, arguments.folder.iterdir()))
    else:
        paths = arguments.runs
    found, damaged = [], []
    for path in paths:
        try:
            found.append(_figures(Run.existing(path)))
        except (RunError, PermissionError) as error:
            if arguments.action == "compare":
                raise
            damaged.append({"run": str(path), "error": str(error)})
    if arguments.action == "list":
        found.sort(key=lambda figures: str(figures["started"]))
    if arguments.json:
        print(json.dumps({"runs": [*found, *damaged]}, indent=2))
    else:
        if found and arguments.action == "list":
            screen = console()
            screen.print(_listing(found, screen.width))
            for line in _unfinished(found):
                print(visible(line))
        elif found:
            console(width=WIDEST).print(_table(found))
        for run in damaged:
            print(visible(f"{run['run']}: {run['error']}"))
        if not found and not damaged:
            print(visible(f"no runs in {arguments.folder}"))
    if arguments.action == "compare" and arguments.output is not None:
        _draw([Run.existing(path) for path in paths], arguments.output)
    return 0


def _may_be_run(path: Path) -> bool:
    """Tell whether a folder holds files that only a run has, in whatever state, or does not let itself be read."""
    try:
        return not {ABOUT, LAST}.isdisjoint(os.listdir(path))
    except PermissionError:
        return True
    except OSError:  # no folder
        return False


def _figures(run: Run) -> dict[str, Any]:
    """Return the summary of a run: the best value of each figure, and how the training ended."""
    about, rows = run.checked()
    best = {
        name: (min if name.endswith("loss") else max)(values)
        for name in FIGURES
        if (values := [row[name] for row in rows if row.get(name) is not None])
    }
    return {
        "run": str(run.path),
        "name": about.get("name"),
        "started": about.get("started"),
        "seed": about.get("seed"),
        "parameters": about.get("parameters"),
        "epochs": len(rows),
        "seconds": round(sum(row.get("seconds") or 0 for row in rows), 1),
        "best": best,
        "curve": _curve(rows),
        "weights": rows[-1].get("weights") if rows else None,
        "complete": "results" in about,
        "stopped": about.get("stopped"),
    }


def _curve(rows: list[dict[str, Any]]) -> list[float]:
    """Return the loss of each epoch: of validation if there is one, else of training."""
    for name in ("validation.loss", "train.loss"):
        values = [row[name] for row in rows if row.get(name) is not None and math.isfinite(row[name])]
        if values:
            return values
    return []


def _listing(found: list[dict[str, Any]], width: int) -> Table:
    """Return a table with a line for each run, and as many columns, in the order of `WORTH`, as the width allows."""
    rows = {
        "run": [loggable(Path(figures["run"]).name) for figures in found],
        "epochs": [str(figures["epochs"]) for figures in found],
        "time": [duration_text(figures["seconds"]) for figures in found],
        **{name: [_figure_text(name, figures["best"].get(name)) for figures in found] for name in FIGURES},
        "loss, by epoch": [sparkline(figures["curve"], LONGEST) for figures in found],
        "seed": [str(figures["seed"]) for figures in found],
        "weights": [figures["weights"] or "" for figures in found],
    }
    headings = {name: f"best.{name}".replace(".", "\n") if name in FIGURES else name for name in rows}
    widths = {
        name: max(map(len, [*headings[name].split("\n"), *values])) + 2 for name, values in rows.items() if any(values)
    }
    chosen = {"run", "epochs", "time"}
    left = width + 2 - sum(widths[name] for name in chosen)
    for name in WORTH:
        if widths.get(name, width) <= left:
            chosen.add(name)
            left -= widths[name]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    shown = [name for name in rows if name in chosen]
    for name in shown:
        text = name in ("run", "weights", "loss, by epoch")
        table.add_column(headings[name], justify="left" if text else "right", overflow="fold")
    for values in zip(*(rows[name] for name in shown), strict=True):
        table.add_row(*values)
    return table


def _unfinished(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each run that has not finished, with the reason."""
    for figures in found:
        if not figures["complete"]:
            why = f": {figures['stopped']}" if figures["stopped"] else ""
            yield f"{Path(figures['run']).name}: not finished{why}"


def _table(found: list[dict[str, Any]]) -> Table:
    """Return a table with a line for each run, without columns that no run has a value for."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [name for name in FIGURES if any(name in figures["best"] for figures in found)]
    table.add_column("run", overflow="fold")
    for heading in ("seed", "epochs", "seconds", *(f"best {name}" for name in shown)):
        table.add_column(heading, justify="right")
    table.add_column("weights")
    for figures in found:
        values = [_figure_text(name, figures["best"].get(name)) for name in shown]
        why = f": {loggable(figures['stopped'])}" if figures["stopped"] else ""
        state = "" if figures["complete"] else f" (not finished{why})"
        counts = (str(figures["seed"]), str(figures["epochs"]), f"{figures['seconds']:.1f}")
        table.add_row(f"{loggable(figures['run'])}{state}", *counts, *values, figures["weights"] or "")
    return table


def _figure_text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.2%}"


def _draw(runs: list[Run], path: Path) -> None:
    try:
        draw_comparison(dict(zip(run_names(runs), (run.history() for run in runs), strict=True)), path)
    except ImportError as error:
        raise RunError("drawing needs matplotlib", "python -m pip install 'cnnspec[report]'") from error
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"cannot write {path}: {error}", "name a file that ends with .png, .svg or .pdf") from error
