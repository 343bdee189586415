"""`eval RUN`: loss and accuracy of a trained network on a split of its data."""

from __future__ import annotations

import argparse
import json

from cnnspec.cli.arguments import add_data, add_run, add_threads
from cnnspec.cli.check import opened
from cnnspec.cli.trained import open_run
from cnnspec.diagnostics import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    add_data(parser)
    add_threads(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="default: test")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    data = opened(model.spec, model.graph, arguments)
    dataset = data.splits.get(arguments.split)
    if dataset is None:
        raise RunError(f"the spec sets no {arguments.split} images apart", "add data: {validation: {fraction: 0.1}}")
    score = model.score(dataset)
    if arguments.json:
        figures = {"split": arguments.split, "images": score.images, "loss": score.loss, "accuracy": score.accuracy}
        print(json.dumps(figures))
    else:
        accuracy = "" if score.accuracy is None else f", accuracy {score.accuracy:.2%}"
        print(f"{arguments.split}: {score.images:,} images, loss {score.loss:.4f}{accuracy}")
    return 0
