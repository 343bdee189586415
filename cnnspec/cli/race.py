"""`bench SPEC --against FRAMEWORK`: the table of a race, or its figures as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from cnnspec.compare.against import OWN, Comparison, against
from cnnspec.compare.race import Race
from cnnspec.graph import Graph
from cnnspec.layers.base import Mode
from cnnspec.spec import Spec


def run_race(spec: Spec, graph: Graph, batch: int, mode: Mode, threads: int, arguments: argparse.Namespace) -> int:
    """Run the race and print its result; RunError if the framework is missing or cannot run this network."""
    comparison = against(
        arguments.against, spec, graph, batch, mode, threads=threads, seconds=arguments.seconds, say=_say
    )
    if arguments.json:
        print(json.dumps(_figures(comparison, batch, mode, threads), indent=2))
        return 0
    _print(comparison.race, batch, mode, threads)
    if comparison.crowded:
        print(
            f"other programs used {comparison.busy:.0%} of the processors: "
            "these ratios are not those of a quiet machine"
        )
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _figures(found: Comparison, batch: int, mode: Mode, threads: int) -> dict[str, Any]:
    race, ratios = found.race, found.race.ratios(found.race.best)
    return {
        "mode": mode,
        "batch": batch,
        "threads": threads,
        "used_by_others": found.busy,
        "programs": {
            name: {"seconds": list(values), "images_per_second": batch / race.median(name)}
            for name, values in race.seconds.items()
        },
        "best_rival": race.best,
        "ratio": {"median": ratios[len(ratios) // 2], "lowest": ratios[0], "highest": ratios[-1]},
    }


def _print(found: Race, batch: int, mode: Mode, threads: int) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("program")
    for heading in ("ms", "images/s", "cnnspec is faster by", "from", "to"):
        table.add_column(heading, justify="right")
    for name in found.seconds:
        seconds = found.median(name)
        ratios = [] if name == OWN else found.ratios(name)
        spread = (f"{ratios[len(ratios) // 2]:.2f}", f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}") if ratios else ()
        table.add_row(name, f"{seconds * 1e3:,.3f}", f"{batch / seconds:,.0f}", *spread)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    ratios = found.ratios(found.best)
    print(
        f"\n{mode} at batch {batch} on {threads} threads: {ratios[len(ratios) // 2]:.2f} times {found.best} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds, in alternation)"
    )
