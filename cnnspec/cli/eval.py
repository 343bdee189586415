"""`eval RUN`: loss and accuracy of a trained network on a split of its data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.table import Table

from cnnspec.cli.arguments import add_data, add_run, add_threads
from cnnspec.cli.opening import opened
from cnnspec.cli.output import console, note
from cnnspec.cli.sparkline import sparkline
from cnnspec.cli.trained import data_folder, is_same, open_run, trained_checksums, trained_classes
from cnnspec.cli.views import add_views, views_of
from cnnspec.diagnostics import RunError, loggable
from cnnspec.kernels.step import Array
from cnnspec.train.score import Score
from cnnspec.train.views import mean_score

MOST_BLOCKS = 40  # most classes that are shown with a block each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
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
    own = arguments.data is None
    folder = data_folder(arguments.run)
    arguments.data = arguments.data or folder
    learned = None if is_same(arguments.data, folder) else trained_checksums(arguments.run, {}).values()
    data = opened(model.spec, model.graph, arguments, trained_classes(arguments.run), model.pipeline, learned or None)
    if own and data.checksums != trained_checksums(arguments.run, data.checksums):
        note("files were added, removed or changed since the training: images that it learned may be in other splits")
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
    figures_of_all = _class_lines(replace(score, parts={}))
    counted = f"{score.images:,} image{'s' * (score.images != 1)}" + ("" if views is None else f", {views}")
    print(f"{arguments.split}{f' ({loggable(place)})' if place else ''}: {counted}, {figures_of_all}")
    for name, part in score.parts.items():
        print(f"  {name}: {_class_lines(part)}")
    if score.confusion is not None:
        names = list(map(loggable, _names(data.class_names, len(score.confusion))))
        if score.kind == "class":
            for line in _by_class(score.confusion, names):
                print(line)
        if arguments.confusion:
            print("true class, and what it was taken for:")
            console().print(confusion_table(score.confusion, names, console().width))
    return 0


def _by_class(confusion: Array, names: Sequence[str]) -> Iterator[str]:
    """Yield a line with the recall of each class as a block, and the class with the lowest recall."""
    there = confusion.sum(axis=1)
    recall = {names[i]: float(confusion[i, i] / there[i]) for i in range(len(names)) if there[i]}
    if len(recall) > 1:
        worst = min(recall, key=lambda name: recall[name])
        blocks = sparkline(list(recall.values()), MOST_BLOCKS, 0.0, 1.0)
        shown = f"{blocks}, " if blocks and len(recall) <= MOST_BLOCKS else ""
        yield f"recall of each class: {shown}the least {recall[worst]:.2%} of {worst}"


def _class_lines(score: Score) -> str:
    figures = score.figures().items()
    return ", ".join(f"{name} {_figure_text(name, value)}" for name, value in figures if value is not None)


def _names(classes: Sequence[str], outputs: int) -> list[str]:
    """Return a name for every output: that of its class, or its number if there are more outputs than classes."""
    return [*classes, *map(str, range(len(classes), outputs))]


def _figure_text(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("loss", "mae", "rmse", "r2") else f"{value:.2%}"


def confusion_table(confusion: Array, names: Sequence[str], width: int) -> Table:
    """Return a table of true classes down and predicted ones across, by number if names exceed the width."""
    cells = [[str(count) if count else "." for count in row] for row in confusion.tolist()]
    widest = [max(map(len, [name, *column])) for name, column in zip(names, zip(*cells, strict=True), strict=True)]
    headings = list(names)
    if max(map(len, names)) + sum(2 + column for column in widest) > width:
        headings = [str(number) for number in range(len(names))]
        names = [name if name == number else f"{number} {name}" for name, number in zip(names, headings, strict=True)]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, row in zip(names, cells, strict=True):
        table.add_row(name, *row)
    return table
