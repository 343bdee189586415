"""Pictures of the loss and the accuracy over the epochs; ImportError where matplotlib, an extra, is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnspec.diagnostics import printable
from cnnspec.report.figure_file import save

SPLITS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#2ca02c"}
MOST_MARKED = 200  # the most points of a line that have a mark each: more would hide it
STYLES = {"train": "--", "validation": "-", "test": ":"}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a diagram: a figure of one split in one run, epoch by epoch."""

    rows: Rows
    split: str
    label: str
    style: Mapping[str, Any]


def draw_curves(rows: Rows, path: Path, title: str) -> None:
    """Draw a run's metrics into a PNG file: the loss on a logarithmic axis, and the accuracy, if any, beside it."""
    style = {"marker": "o", "markersize": 3}
    _draw([Curve(rows, split, split, {"color": colour, **style}) for split, colour in SPLITS.items()], path, title)


def draw_comparison(runs: Mapping[str, Rows], path: Path) -> None:
    """Draw several runs into one PNG file: a colour for each; training dashed, validation solid, test dotted."""
    curves = [
        Curve(rows, split, f"{name} {split}", {"color": f"C{number % 10}", "linestyle": style, "marker": "."})
        for number, (name, rows) in enumerate(runs.items())
        for split, style in STYLES.items()
    ]
    _draw(curves, path, " and ".join(runs))


def _plain(name: str) -> str:
    """Return a printable name that matplotlib shows: it hides labels which begin with an underscore."""
    return printable(f" {name}" if name.startswith("_") else name)


def _draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    os.environ.pop("MPLBACKEND", None)  # names a window system: files need none, and a wrong name fails the import
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter

    rows = [row for curve in curves for row in curve.rows]
    classifies = any(row["train.accuracy"] is not None for row in rows)
    figure = Figure(figsize=(10 if classifies else 5.5, 4), dpi=120)
    FigureCanvasAgg(figure)
    margins = {"left": 0.08, "wspace": 0.22} if classifies else {"left": 0.14}
    panels = figure.subplots(1, 2 if classifies else 1, squeeze=False, gridspec_kw={**margins, "right": 0.98})[0]
    for axes, metric, corner in zip(panels, ("loss", "accuracy"), ("upper right", "lower right"), strict=False):
        for curve in curves:
            name = f"{curve.split}.{metric}"
            points = [(row["epoch"], row[name]) for row in curve.rows if row[name] is not None]
            if points:
                style = curve.style if len(points) <= MOST_MARKED else {**curve.style, "marker": ""}
                axes.plot(*zip(*points, strict=True), label=_plain(curve.label), **style)
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            for text in axes.legend(fontsize="small", loc=corner).get_texts():
                text.set_parse_math(False)
    if all(row["train.loss"] > 0 for row in rows):
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter(LogFormatter())
        panels[0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
    if classifies:
        panels[1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.suptitle(_plain(title), parse_math=False)
    with rc_context({"agg.path.chunksize": 1000}):  # a line of thousands of epochs at once would take tens of MB
        save(figure, path)
