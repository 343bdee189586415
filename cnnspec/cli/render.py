"""`render SPEC`: the resolved spec, with blocks and variables expanded, and every default written out."""

from __future__ import annotations

import argparse

from cnnspec.cli.arguments import add_spec, spec_of
from cnnspec.graph import build
from cnnspec.graph.render import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser)
    parser.add_argument("--origins", action="store_true", help="say of every value where it was written")


def run(arguments: argparse.Namespace) -> int:
    """Print the expanded spec."""
    spec = spec_of(arguments)
    print(render(spec, build(spec), origins=arguments.origins), end="")
    return 0
