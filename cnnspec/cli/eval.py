"""`eval RUN`: loss and accuracy of a trained network on a split of its data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from cnnspec.cli.arguments import add_data, add_run, add_threads
from cnnspec.cli.opening import opened
from cnnspec.cli.output import console
from cnnspec.cli.trained import data_folder, open_run, trained_classes
from cnnspec.cli.views import add_views, views_of
from cnnspec.diagnostics import RunError, printable
from cnnspec.kernels.step import Array
from cnnspec.train.score import Score
from cnnspec.train.views import mean_score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    add_run(parser)
    add_data(parser)
    add_threads(parser)
    add_views(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="default: test")
    parser.add_argument("--confusion", action="store_true", help="print which class was taken for which")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Score the network on a split and print the figures."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    arguments.data = arguments.data or data_folder(arguments.run)
    data = opened(model.spec, model.graph, arguments, trained_classes(arguments.run), model.pipeline)
    dataset = data.splits.get(arguments.split)
    if dataset is None:
        raise RunError(f"the spec sets no {arguments.split} images apart", "add data: {validation: {fraction: 0.1}}")
    views = views_of(model, arguments)
    score = model.score(dataset) if views is None else mean_score(model, dataset, views)
    if arguments.json:
        matrix = None if score.confusion is None else score.confusion.tolist()
        classes = [] if matrix is None else _names(data.class_names, len(matrix))
        figures = {"split": arguments.split, "images": score.images, **score.figures(), "classes": classes}
        figures["confusion"] = matrix
        figures |= {} if views is None else {"views": views.count}
        print(json.dumps(figures))
        return 0
    place = data.places.get(arguments.split)
    figures_of_all = _listed(replace(score, parts={}))
    counted = f"{score.images:,} images" + ("" if views is None else f", {views}")
    print(f"{arguments.split}{f' ({printable(place)})' if place else ''}: {counted}, {figures_of_all}")
    for name, part in score.parts.items():
        print(f"  {name}: {_listed(part)}")
    if arguments.confusion and score.confusion is not None:
        names = _names(data.class_names, len(score.confusion))
        print("true class, and what it was taken for:")
        console().print(_matrix(score.confusion, list(map(printable, names))))
    return 0


def _listed(score: Score) -> str:
    figures = score.figures().items()
    return ", ".join(f"{name} {_shown(name, value)}" for name, value in figures if value is not None)


def _names(classes: Sequence[str], outputs: int) -> list[str]:
    """A name for every output: that of its class, or its number where the network has more outputs than classes."""
    return [*classes, *map(str, range(len(classes), outputs))]


def _shown(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("loss", "mae", "rmse", "r2") else f"{value:.2%}"


def _matrix(confusion: Array, names: Sequence[str]) -> Table:
    """True classes down, predicted ones across."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, confusion.tolist(), strict=True):
        table.add_row(name, *(str(count) if count else "." for count in row))
    return table
