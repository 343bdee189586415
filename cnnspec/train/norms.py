"""The norms of each layer's weights and of their gradients: a row for each epoch, in a file of the run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnspec.files import read_bounded
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.train.network import Network
from cnnspec.train.records import MOST_METRICS

Row = Mapping[str, float | None]  # columns: the epoch, and NAME.weights and NAME.gradient of each layer
WEIGHTS, GRADIENT = ".weights", ".gradient"


def norms(model: Network, epoch: int) -> dict[str, float | None]:
    """The norms of every layer's parameters, and of their gradient in the last watched step."""
    squares: dict[str, float] = {}
    with one_blas_thread:
        for slot in model.weights.slots:
            values = model.weights.values[slot.start : slot.stop]
            squares[slot.node.name] = squares.get(slot.node.name, 0.0) + float(np.vdot(values, values))
    gradients = {} if model.training is None else model.training.norms.found()
    row: dict[str, float | None] = {"epoch": epoch}
    for layer, square in squares.items():
        row |= {f"{layer}{WEIGHTS}": math.sqrt(square), f"{layer}{GRADIENT}": gradients.get(layer)}
    return row


def as_text(rows: Sequence[Row], *, heading: bool = True) -> str:
    """Return rows as the text of a CSV table."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        if heading:
            writer.writeheader()
        writer.writerows({key: _norm_text(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def read_norms(path: Path) -> list[dict[str, float | None]]:
    """Read the rows of a file of norms, one for each epoch; none if it is missing or unreadable.

    A last line that was cut off is left out.
    """
    try:
        complete_lines = read_bounded(path, MOST_METRICS).decode().rpartition("\n")[0]
        rows = csv.DictReader(io.StringIO(complete_lines))
        norms = [{key: float(value) if value else None for key, value in row.items()} for row in rows]
    except (OSError, ValueError, TypeError, csv.Error):
        return []
    return [row for number, row in enumerate(norms, 1) if row.get("epoch") == number]


def _norm_text(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"
