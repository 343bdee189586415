"""Command-line arguments that several verbs have, and the functions that read a spec by them."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnspec.spec import Spec, load

OUTSIDE = "let extends lead out of the spec's repository, or out of its folder where it lies in none"


def add_spec(parser: argparse.ArgumentParser, *, required: bool = True, computes: bool = False) -> None:
    """Declare the spec and changes to it; a verb that computes with the network runs the plugins that a spec names."""
    parser.add_argument("spec", metavar="SPEC", nargs=None if required else "?", help="the YAML file, or -")
    add_overrides(parser)
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)
    add_plugins(parser, computes=computes)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Declare changes to a spec."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a value of the spec, such as train.epochs=5; repeatable",
    )


def add_plugins(parser: argparse.ArgumentParser, *, computes: bool = False) -> None:
    """Declare files that register layers and the like, and whether those that a spec names may run."""
    add_plugin(parser)
    if computes:
        parser.set_defaults(allow_plugins=True)
    else:
        parser.add_argument("--allow-plugins", action="store_true", help="run the plugins that a spec names")


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Declare files that register layers and the like."""
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="run a Python file that registers layers, losses and the like; repeatable",
    )


def spec_of(arguments: argparse.Namespace) -> Spec:
    """Read the spec that `add_spec`'s arguments name."""
    return read_spec(arguments.spec, arguments)


def read_spec(path: str | Path, arguments: argparse.Namespace) -> Spec:
    """Read a spec as `add_spec`'s arguments say."""
    return load(
        path,
        arguments.overrides,
        allow_outside=arguments.allow_outside,
        plugins=arguments.plugins,
        allow_plugins=arguments.allow_plugins,
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Declare where the files of a data set are, and whether missing ones are downloaded."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data set's files")
    parser.add_argument("--download", action="store_true", help="fetch the data set where it is missing")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run, or the checkpoint in it, that a verb reads its network from."""
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="a run directory, a checkpoint in one, or weights of `convert`"
    )
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one (default: last)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare how many workers compute."""
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads to compute with, on Linux processes (default: as many as processors)",
    )


def count(text: str) -> int:
    """Parse a whole number from 1 to 100,000, as a machine can have of something."""
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100,000, got '{text}'")
    return int(text)


def amount(text: str) -> int:
    """Parse a whole number above 0 of at most 15 digits, such as steps or images."""
    if not text.isdecimal() or len(text) > 15 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got '{text}'")
    return int(text)
