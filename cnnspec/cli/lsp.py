"""`lsp`: the language server, which editors start and talk to over standard input and output."""

from __future__ import annotations

import argparse
import sys

from cnnspec.cli.arguments import OUTSIDE, add_plugins
from cnnspec.diagnostics import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("--stdio", action="store_true", help="talk over standard input and output, as it always does")
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until the editor disconnects; all other output goes to standard error."""
    try:
        from cnnspec.lsp.analysis import Trust  # an extra
        from cnnspec.lsp.server import serve  # an extra
    except ModuleNotFoundError as error:
        raise RunError("the language server needs pygls", "python -m pip install 'cnnspec[lsp]'") from error
    trust = Trust(arguments.allow_outside, tuple(arguments.plugins), arguments.allow_plugins)
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        with open(output.fileno(), "wb", closefd=False) as answers:
            serve(trust, sys.stdin.buffer, answers)
    finally:
        sys.stdout = output
    return 0
