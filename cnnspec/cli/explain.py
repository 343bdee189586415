"""`explain TOPIC`: a page on a finding, on anything that a spec can name, or of the guide."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cnnspec.cli import USAGE
from cnnspec.cli.arguments import add_plugin
from cnnspec.cli.output import complain
from cnnspec.code import code
from cnnspec.pages import contents, page, topics
from cnnspec.plugins import load_all, using
from cnnspec.spec.suggest import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    description = "such as conv2d, shape-mismatch or guide/data; lists all by default"
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help=description)
    parser.add_argument("--code", action="store_true", help="print the code of a layer, a loss and the like instead")
    add_plugin(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the page, or the list of all topics."""
    with using(load_all(arguments.plugins)):
        return _explain(arguments.topic, code if arguments.code else page)


def _explain(topic: str | None, of: Callable[[str], str | None]) -> int:
    text = contents() if topic is None else of(topic)
    if text is None and topic is not None and page(topic) is not None:
        complain(f"'{topic}' is not computed", "--code is for layers, losses, optimizers and what else is registered")
        return USAGE
    if text is None:
        near = nearest(str(topic).removeprefix("guide/"), topics())
        cure = f"did you mean {' or '.join(near)}?" if near else "cnnspec explain lists all topics"
        complain(f"nothing is known of '{topic}'", cure)
        return USAGE
    print(text)
    return 0
