"""`schema`: the JSON Schema of specs, for editors."""

from __future__ import annotations

import argparse

from cnnspec.cli.arguments import add_plugin
from cnnspec.plugins import load_all, using
from cnnspec.spec.schema import schema_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema, including the types that plugins register."""
    with using(load_all(arguments.plugins)):
        print(schema_text(), end="")
    return 0
