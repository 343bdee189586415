"""`runs list` and `runs compare A B`: trainings side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.table import Table

from cnnspec.cli.output import console, visible
from cnnspec.diagnostics import RunError, printable
from cnnspec.report import draw_comparison
from cnnspec.train.run import ABOUT, Run

WIDEST = 1000  # columns: a table is as wide as it needs, also through a pipe, so that no figure is cut
FIGURES = ("train.loss", "train.accuracy", "validation.loss", "validation.accuracy", "test.loss", "test.accuracy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    actions = parser.add_subparsers(dest="action", metavar="list|compare", required=True)
    listing = actions.add_parser("list", help="every run in a folder, the newest last")
    listing.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    comparing = actions.add_parser("compare", help="the figures of two or more runs, and their curves")
    comparing.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    comparing.add_argument("-o", "--output", type=Path, metavar="PNG", help="draw the curves into this picture")
    for action in (listing, comparing):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """List the runs in a folder, or compare those that are named."""
    if arguments.action == "list":
        if not arguments.folder.is_dir():
            raise RunError(f"no folder {arguments.folder}", "name the one that --out of `cnnspec train` had")
        paths = sorted(path.parent for path in arguments.folder.glob(f"*/{ABOUT}"))
    else:
        paths = arguments.runs
    found, damaged = [], []
    for path in paths:
        try:
            found.append(_figures(Run.existing(path)))
        except RunError as error:
            if arguments.action == "compare":
                raise
            damaged.append({"run": str(path), "error": str(error)})
    if arguments.action == "list":
        found.sort(key=lambda figures: str(figures["started"]))
    if arguments.json:
        print(json.dumps({"runs": [*found, *damaged]}, indent=2))
    else:
        if found:
            console(width=WIDEST).print(_table(found))
        for run in damaged:
            print(visible(f"{run['run']}: {run['error']}"))
        if not found and not damaged:
            print(visible(f"no runs in {arguments.folder}"))
    if arguments.action == "compare" and arguments.output is not None:
        _draw([Run.existing(path) for path in paths], arguments.output)
    return 0


def _figures(run: Run) -> dict[str, Any]:
    """What one line tells: the best value of each figure, and where the training ended."""
    about, rows = run.about(), run.history()
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
        "weights": rows[-1].get("weights") if rows else None,
        "complete": "results" in about,
        "stopped": about.get("stopped"),
    }


def _table(found: list[dict[str, Any]]) -> Table:
    """Runs as lines; figures that no run has are left out."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [name for name in FIGURES if any(name in figures["best"] for figures in found)]
    table.add_column("run", overflow="fold")
    for heading in ("seed", "epochs", "seconds", *(f"best {name}" for name in shown)):
        table.add_column(heading, justify="right")
    table.add_column("weights")
    for figures in found:
        values = [_shown(name, figures["best"].get(name)) for name in shown]
        why = f": {printable(figures['stopped'])}" if figures["stopped"] else ""
        state = "" if figures["complete"] else f" (not finished{why})"
        counts = (str(figures["seed"]), str(figures["epochs"]), f"{figures['seconds']:.1f}")
        table.add_row(f"{printable(figures['run'])}{state}", *counts, *values, figures["weights"] or "")
    return table


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.2%}"


def _draw(runs: list[Run], path: Path) -> None:
    try:
        draw_comparison({run.path.name: run.history() for run in runs}, path)
    except ImportError as error:
        raise RunError("drawing needs matplotlib", "python -m pip install 'cnnspec[report]'") from error
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"cannot write {path}: {error}", "name a file that ends with .png, .svg or .pdf") from error
