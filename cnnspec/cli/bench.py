"""`bench SPEC`: time per layer and direction, against the machine's own matrix-multiply peak."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from cnnspec.check import checked
from cnnspec.cli.arguments import add_spec, add_threads, count, spec_of
from cnnspec.cli.race import run_race
from cnnspec.compare.against import FRAMEWORKS
from cnnspec.compare.profile import Profile, Row, profile
from cnnspec.diagnostics import RunError
from cnnspec.layers.base import Mode
from cnnspec.memory import bytes_text
from cnnspec.train.network import available_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser, computes=True)
    add_threads(parser)
    parser.add_argument("--batch", type=count, metavar="N", help="batch size (default: the spec's)")
    parser.add_argument("--inference", action="store_true", help="measure inference instead of training")
    parser.add_argument("--against", choices=FRAMEWORKS, help="race the same network in another framework instead")
    parser.add_argument("--seconds", type=count, default=2, metavar="S", help="how long to measure (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Time every layer, or race another framework, and print the result."""
    spec = spec_of(arguments)
    graph = checked(spec)
    mode: Mode = "infer" if arguments.inference else "train"
    if mode == "train" and spec.train is None:
        raise RunError("the spec has no train section", "measure inference with --inference, or add one")
    threads = arguments.threads or available_cores()
    batch = arguments.batch or (spec.train.batch_size if spec.train else 1)
    print(f"measuring {mode} at batch {batch} on {threads} threads", file=sys.stderr)
    if arguments.against:
        return run_race(spec, graph, batch, mode, threads, arguments)
    found = profile(
        graph,
        batch,
        mode,
        loss=spec.train.loss if spec.train else None,
        optimizer=spec.train.optimizer if spec.train else None,
        threads=threads,
        seconds=arguments.seconds,
    )
    if arguments.json:
        print(json.dumps(_figures(found), indent=2))
    else:
        _print(found)
    return 0


def _figures(found: Profile) -> dict[str, Any]:
    return {
        "mode": found.mode,
        "batch": found.batch,
        "threads": found.threads,
        "peak_flops": found.peak,
        "step_seconds": found.step,
        "flops": found.rate,
        "share_of_peak": found.fraction,
        "timed_step_seconds": found.timed,
        "update_seconds": found.update,
        "rest_seconds": found.rest,
        "images_per_second": found.batch / found.step,
        "steps": found.steps,
        "layers": [
            {
                "layer": row.layer,
                "type": row.type,
                "direction": row.direction,
                "seconds": row.seconds,
                "flops": row.rate,
                "share_of_peak": row.rate / found.peak,
                "bytes": row.bytes,
                "kernel": row.kernel,
                "predicted_seconds": row.predicted,
                "fewer_multiplications": row.saves,
            }
            for row in found.rows
        ],
    }


def _print(found: Profile) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("layer", "type", "direction", "kernel"):
        table.add_column(heading)
    for heading in ("us", "of step", "predicted", "GFLOP/s", "of peak", "bytes"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        table.add_row(*_cells(row, found))
    for name, seconds in (("update", found.update), ("rest", found.rest), ("step", found.timed)):
        table.add_row(name, "", "", "", f"{seconds * 1e6:,.0f}", f"{seconds / found.timed:.1%}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(
        f"\n{found.mode} at batch {found.batch} on {found.threads} threads: {found.batch / found.step:,.0f} images/s, "
        f"{found.rate / 1e9:,.1f} GFLOP/s, {found.fraction:.0%} of this machine's {found.peak / 1e9:,.0f} GFLOP/s; "
        f"medians, {found.steps} steps"
    )
    for line in _above_the_peak(found):
        console.print(line)
    console.print("rest: batches entering, barriers and threads waiting for one another")
    console.print("the table's steps have clocks and update at their end; those of the line below it do not")


def _above_the_peak(found: Profile) -> Iterator[str]:
    """Yield sentences that explain rates above the peak, such as kernels with fewer multiplications than counted."""
    above = [row for row in found.rows if row.rate > found.peak]
    saving = sorted({str(row.kernel) for row in above if row.saves})
    if saving:
        yield f"above 100%: {', '.join(saving)}, with fewer multiplications than the definition, whose are counted"
    if any(not row.saves for row in above):
        yield "above 100% elsewhere: other programs slowed the large product that the peak is; measure again"


def _cells(row: Row, found: Profile) -> tuple[str, ...]:
    return (
        row.layer,
        row.type,
        row.direction,
        row.kernel or "",
        f"{row.seconds * 1e6:,.0f}",
        f"{row.seconds / found.timed:.1%}",
        f"{row.predicted * 1e6:,.0f}" if row.predicted else "",
        f"{row.rate / 1e9:,.1f}" if row.macs else "",
        f"{row.rate / found.peak:.0%}" if row.macs else "",
        bytes_text(row.bytes),
    )
