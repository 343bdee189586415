"""`gradcheck SPEC`: compares the gradients of this network with numerical ones."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from cnnspec.check import checked
from cnnspec.cli.arguments import add_spec, count, spec_of
from cnnspec.diagnostics import RunError
from cnnspec.train.gradcheck import Check, gradcheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser, computes=True)
    parser.add_argument(
        "--images", type=count, metavar="N", help="random images (default: the batch size, 2 for layers)"
    )
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="E", help="largest error (default: 1e-5)")
    parser.add_argument("--json", action="store_true", help="print the figures for a machine")


def run(arguments: argparse.Namespace) -> int:
    """Check and print; RunError names the layers whose gradients are wrong."""
    spec = spec_of(arguments)
    found = list(gradcheck(spec, checked(spec), images=arguments.images))
    wrong = [check for check in found if not check.error <= arguments.tolerance]
    if arguments.json:
        rows = [{"layer": c.layer, "type": c.type, "array": c.array, "error": c.error} for c in found]
        print(json.dumps({"tolerance": arguments.tolerance, "passed": not wrong, "checks": rows}, indent=2))
    else:
        _print(found, arguments.tolerance)
    if wrong:
        layers = ", ".join(dict.fromkeys(f"{check.type} '{check.layer}'" for check in wrong))
        raise RunError(f"wrong gradients in {layers}", "backward does not compute the derivative of forward there")
    return 0


def _print(found: list[Check], tolerance: float) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("layer", "type", "gradient of"):
        table.add_column(heading)
    table.add_column("relative error", justify="right")
    table.add_column("")
    for check in found:
        verdict = "ok" if check.error <= tolerance else "[bold red]wrong[/]"
        table.add_row(check.layer, check.type, check.array, f"{check.error:.1e}", verdict)
    Console(highlight=False).print(table)
