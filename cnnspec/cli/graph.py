"""`graph SPEC`: a picture of the network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cnnspec.cli import CLEAN, USAGE
from cnnspec.cli.arguments import add_spec, spec_of
from cnnspec.cli.output import complain
from cnnspec.diagnostics import RunError
from cnnspec.files import rewrite
from cnnspec.graph import build
from cnnspec.report.drawing import as_dot, as_mermaid, as_text
from cnnspec.report.outline import Outline, outline
from cnnspec.report.raster import as_picture
from cnnspec.report.scene import as_svg

TEXTS = {"text": as_text, "mermaid": as_mermaid, "dot": as_dot, "svg": as_svg}
FORMATS = (*TEXTS, "png", "pdf")
ENDINGS = {
    ".txt": "text",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".png": "png",
    ".pdf": "pdf",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: what the output's ending says, else text")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"write there: {', '.join(ENDINGS)}")


def run(arguments: argparse.Namespace) -> int:
    """Draw the network and print the picture, or write it to a file; return 2 if the file's suffix is no format."""
    output = arguments.output
    kind = arguments.format or ("text" if output is None else ENDINGS.get(output.suffix.lower()))
    if kind is None:
        known = ", ".join(ENDINGS)
        complain(f"{output}: no picture ends in '{output.suffix}'", f"name a file that ends in one of {known}")
        return USAGE
    if output is None and kind not in TEXTS:
        complain(f"a {kind.upper()} cannot be printed", f"write it to a file: -o network.{kind}")
        return USAGE
    picture = _drawn(outline(build(spec_of(arguments))), kind)
    if output is None:
        print(picture.decode(), end="")
        return CLEAN
    try:
        rewrite(output, picture)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror}") from error
    return CLEAN


def _drawn(picture: Outline, kind: Any) -> bytes:
    if kind in TEXTS:
        return (TEXTS[kind](picture).rstrip("\n") + "\n").encode()
    try:
        return as_picture(as_svg(picture), kind)
    except ImportError as error:
        cure = "python -m pip install 'cnnspec[report]', or write an .svg, which needs nothing"
        raise RunError("drawing a PNG or PDF needs matplotlib", cure) from error
