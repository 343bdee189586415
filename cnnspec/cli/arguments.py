"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

OUTSIDE = "let extends lead out of the spec's own folder"


def add_spec(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The spec, and changes to it."""
    parser.add_argument("spec", metavar="SPEC", nargs=None if required else "?", help="the YAML file, or -")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a value of the spec, such as train.epochs=5; repeatable",
    )
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the data set is."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data set's files")
    parser.add_argument("--download", action="store_true", help="fetch the data set where it is missing")


def add_run(parser: argparse.ArgumentParser) -> None:
    """A trained network."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, or a checkpoint in one")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one (default: last)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """How many members of a team compute."""
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads to compute with, on Linux processes (default: as many as processors)",
    )


def count(text: str) -> int:
    """A whole number from 1 on, within reason."""
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100,000, got '{text}'")
    return int(text)
