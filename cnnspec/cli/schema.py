"""`schema`: the JSON Schema of specs, for editors."""

from __future__ import annotations

import argparse
import json

from cnnspec.spec.schema import schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments."""


def run(_: argparse.Namespace) -> int:
    """Print it."""
    print(json.dumps(schema(), indent=1))
    return 0
