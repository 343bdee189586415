"""A picture of the loss and the accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPLITS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#2ca02c"}


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw metrics rows to a PNG file: loss on a logarithmic axis, accuracy beside it where there is one.

    ImportError where matplotlib is missing (the `report` extra).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    judged = any(row["train.accuracy"] is not None for row in rows)
    figure = Figure(figsize=(10 if judged else 5.5, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if judged else 1, squeeze=False)[0]
    for axes, what in zip(panels, ("loss", "accuracy"), strict=False):
        for split, colour in SPLITS.items():
            points = [(row["epoch"], row[f"{split}.{what}"]) for row in rows if row[f"{split}.{what}"] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=split, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    if all(row["train.loss"] > 0 for row in rows):
        panels[0].set_yscale("log")
    if judged:
        panels[1].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.suptitle(title)
    figure.savefig(path)
