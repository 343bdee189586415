"""`data show SPEC`: a contact sheet of a spec's images, and their statistics: classes, counts, pixels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnspec.cli.opening import opened
from cnnspec.cli.output import visible
from cnnspec.cli.picturing import drawing
from cnnspec.diagnostics import DataError, loggable
from cnnspec.graph import build
from cnnspec.report.dataset import class_counts, pixel_statistics, tiles_of
from cnnspec.report.sheet import draw_sheet
from cnnspec.shapes import text
from cnnspec.spec import load
from cnnspec.target import KINDS


def show(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw some training images as the network gets them, and return the data's statistics."""
    spec = load(name, plugins=arguments.plugins, allow_plugins=arguments.allow_plugins)
    if spec.data is None:
        raise DataError(f"{name} has no data section", "add data: {source: digits}")
    data = opened(spec, build(spec), arguments)
    counts, of_images = class_counts(data), data.train.pixels.ndim == 4
    row: dict[str, Any] = {
        "source": name,
        "state": "shown",
        "target": data.target.kind,
        "shape": list(data.train.pixels.shape[1:]),
        "images": {split: len(dataset) for split, dataset in data.splits.items()},
        "classes": {split: dict(zip(data.class_names, of_split, strict=True)) for split, of_split in counts.items()},
        "picture": None,
    }
    if of_images:
        row["mean"], row["deviation"], row["measured"] = pixel_statistics(data.train)
        path = arguments.output or Path(f"{spec.name}-data.png")
        tiles, columns = tiles_of(data)
        with drawing(path):
            draw_sheet(tiles, path, f"{spec.name}: {data.summary()}", columns)
        row["picture"] = str(path)
    return row | {"summary": data.summary()}


def statistics_text(row: dict[str, Any]) -> str:
    """Return the statistics that `show` found as text."""
    lines = [f"{row['source']}: {KINDS[row['target']]}; {row['summary']}"]
    if row["picture"] is None:
        lines.append("there are no images to show: the inputs are rows of numbers")
    else:
        mean, deviation = (" ".join(f"{value:.4f}" for value in row[key]) for key in ("mean", "deviation"))
        lines.append(f"images of {text(row['shape'])}, of which {row['measured']:,} were measured:")
        lines.append(f"pixels, as 0 to 1, have mean {mean}, deviation {deviation}")
    lines += _table(row["classes"]) if row["classes"] else []
    lines += [f"shown in {row['picture']}"] if row["picture"] else []
    return visible("\n".join(lines))


def _table(classes: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield the lines of a table of counts: a row for each class, a column for each split."""
    rows = [["class", *classes]]
    rows += [[loggable(name), *(f"{of[name]:,}" for of in classes.values())] for name in classes["train"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])
