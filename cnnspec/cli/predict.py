"""`predict RUN FILES`: what a trained network says of pictures or arrays."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cnnspec.api import Model
from cnnspec.cli.arguments import add_run, add_threads, count
from cnnspec.cli.trained import open_run, trained_classes
from cnnspec.data import read_pictures
from cnnspec.diagnostics import printable
from cnnspec.kernels.step import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    add_run(parser)
    add_threads(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="pictures, or .npy arrays of images")
    parser.add_argument("--top", type=count, default=3, metavar="K", help="how many classes to print (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object an image")


def run(arguments: argparse.Namespace) -> int:
    """Print the likeliest classes of every image."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    settings = model.spec.data
    names = trained_classes(arguments.run) or (settings.class_names if settings else ())
    for path in arguments.files:
        pixels = read_pictures([path], settings, model.graph.input_shape)
        for index, output in enumerate(model.predict(pixels)):
            _print(f"{path}[{index}]" if len(pixels) > 1 else str(path), output, names, model, arguments)
    return 0


def _print(name: str, output: Array, names: tuple[str, ...], model: Model, arguments: argparse.Namespace) -> None:
    if output.ndim != 1:
        print(f"{printable(name)}: output of shape {output.shape}, mean {output.mean():.4g}")
        return
    loss = model.loss
    scores = loss.probabilities(output) if loss is not None else output
    best = np.argsort(-scores, kind="stable")[: arguments.top]
    found = [(names[i] if i < len(names) else str(i), float(scores[i])) for i in best.tolist()]
    if arguments.json:
        print(json.dumps({"image": name, "classes": [{"class": label, "score": score} for label, score in found]}))
    else:
        print(f"{printable(name)}: " + "  ".join(f"{printable(label)} {score:.2%}" for label, score in found))
