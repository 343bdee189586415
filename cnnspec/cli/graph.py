"""`graph SPEC`: a picture of the network."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnspec.cli.arguments import add_spec, spec_of
from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.report.drawing import as_dot, as_mermaid, as_text
from cnnspec.report.outline import outline
from cnnspec.report.scene import as_svg

FORMATS = {"text": as_text, "mermaid": as_mermaid, "dot": as_dot, "svg": as_svg}
ENDINGS = {".txt": "text", ".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    add_spec(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), help="default: what the output's ending says, else text")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there: .svg, .dot, .mmd or .txt")


def run(arguments: argparse.Namespace) -> int:
    """Draw the network and print the picture, or write it to a file."""
    spec = spec_of(arguments)
    kind = arguments.format or (ENDINGS.get(arguments.output.suffix, "text") if arguments.output else "text")
    picture = FORMATS[kind](outline(build(spec))).rstrip("\n")
    if arguments.output is None:
        print(picture)
        return 0
    try:
        arguments.output.write_text(picture + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {arguments.output}: {error.strerror}") from error
    return 0
