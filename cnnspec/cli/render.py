"""`render SPEC`: the spec as it is understood, blocks and variables expanded, every default written out."""

from __future__ import annotations

import argparse

from cnnspec.graph import build
from cnnspec.spec import load, render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("spec", metavar="SPEC", help="the YAML file, or -")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a value of the spec; repeatable",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    spec = load(arguments.spec, arguments.overrides)
    print(render(spec, build(spec).nodes), end="")
    return 0
