"""`eval RUN`: loss and accuracy of a trained network on a split of its data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cnnspec.cli.runs import open_run
from cnnspec.data import open_data
from cnnspec.diagnostics import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, or a checkpoint in one")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one (default: last)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="default: test")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data set's files")
    parser.add_argument("--download", action="store_true", help="fetch the data set where it is missing")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: all processors)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=model.spec.seed, data_dir=arguments.data, download=arguments.download)
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
