"""`summary SPEC`: layers with their shapes, parameters, multiply-accumulates and memory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from math import prod

from rich.table import Table

from cnnspec.check import checked
from cnnspec.cli.arguments import add_spec, count, spec_of
from cnnspec.cli.output import console
from cnnspec.graph import Graph
from cnnspec.graph.passes import PASSES
from cnnspec.layers.base import Mode
from cnnspec.memory import bytes_text
from cnnspec.plan import Footprint, inference_footprint, training_footprint
from cnnspec.plan.memory.footprint import FLOAT
from cnnspec.plan.schedule.explain import KernelChoice, explain_kernels, explain_stages
from cnnspec.shapes import text
from cnnspec.spec import Spec

WIDE = 160  # columns of a table in a file
RUNNERS_UP = 2  # number printed; JSON has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser)
    parser.add_argument("--batch", type=count, metavar="N", help="batch size for the memory (default: the spec's)")
    parser.add_argument(
        "--explain-plan",
        action="store_true",
        help="say which kernel computes which convolution, and how a small batch is shared",
    )
    parser.add_argument("--passes", action="store_true", help="print the layers after each pass over the graph")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the layers, the memory, and on request the plan and the passes."""
    spec = spec_of(arguments)
    graph = checked(spec)
    batch = arguments.batch or (spec.train.batch_size if spec.train else 1)
    footprints = {"inference": inference_footprint(graph, batch, spec.train)}
    if spec.train is not None:
        footprints["training"] = training_footprint(graph, batch, spec.train)
    mode: Mode = "train" if spec.train else "infer"
    chosen = list(explain_kernels(graph, batch, mode)) if arguments.explain_plan else []
    stages = explain_stages(graph, batch, mode) if arguments.explain_plan else []
    if arguments.json:
        plan = {"kernels": [dataclasses.asdict(entry) for entry in chosen], "stages": stages}
        shown = {name: entries for name, entries in plan.items() if entries}
        print(json.dumps({**_figures(graph, batch, footprints), **shown}, indent=2))
    else:
        _print(spec, graph, batch, footprints)
        if chosen:
            width = None if sys.stdout.isatty() else WIDE
            console(width=width).print(_kernels(chosen, batch))
            if any(price < entry.microseconds for entry in chosen for _, price in entry.others[:RUNNERS_UP]):
                print("* less in this direction alone: dft computes all of a layer's directions or none, so that")
                print("  the sum decides; or the spec pins the kernel")
        if stages:
            _print_stages(stages, batch)
        if arguments.passes:
            _print_passes(graph, mode)
    return 0


def _print_stages(stages: list[dict[str, tuple[int, ...]]], batch: int) -> None:
    """Print a line for each stage, which is the work between two barriers."""
    print(f"\nforward at batch {batch}, a line between barriers, rows of the first worker + rows of the second:")
    for stage in stages:
        print("  " + ", ".join(f"{name} {' + '.join(map(str, rows))}".rstrip() for name, rows in stage.items()))


def _print_passes(graph: Graph, mode: Mode) -> None:
    """Print the graph after each pass of a mode: every node with its type and inputs."""
    for name, transform in PASSES[mode].items():
        before, graph = graph, transform(graph)
        print(f"\nafter {name} ({mode}){': nothing changes' if graph == before else ''}")
        if graph != before:
            for node in graph.nodes:
                print(f"  {node.name}: {node.layer.type_name} of {', '.join(node.inputs)} -> {text(node.shape)}")


def _kernels(chosen: list[KernelChoice], batch: int) -> Table:
    """Return a table of the convolutions' kernels with their predicted times, and the runners-up."""
    table = Table(title=f"kernels at batch {batch}, on one thread", box=None, header_style="bold", pad_edge=False)
    for heading in ("layer", "direction", "kernel", "us", "tile", "instead of"):
        table.add_column(heading, justify="right" if heading == "us" else "left", no_wrap=heading == "layer")
    for entry in chosen:
        prices = entry.others[:RUNNERS_UP]
        others = ", ".join(f"{name} {price:,.0f}{'*' * (price < entry.microseconds)}" for name, price in prices)
        table.add_row(entry.layer, entry.direction, entry.kernel, f"{entry.microseconds:,.0f}", entry.tile, others)
    return table


def _figures(graph: Graph, batch: int, footprints: dict[str, Footprint]) -> dict[str, object]:
    return {
        "name": graph.name,
        "input": graph.input_shape,
        "layers": [
            {
                "name": node.name,
                "type": node.layer.type_name,
                "inputs": node.inputs,
                "output": node.shape,
                "params": node.parameter_count,
                "macs": node.macs,
                "activation_bytes": FLOAT * prod(node.shape),
            }
            for node in graph.nodes
        ],
        "params": graph.parameter_count,
        "trained_params": graph.trainable_count,
        "used_params": graph.used_count,
        "macs": graph.macs,
        "batch": batch,
        "memory": {
            mode: {"arena": footprint.arena, "total": footprint.total} for mode, footprint in footprints.items()
        },
    }


def _print(spec: Spec, graph: Graph, batch: int, footprints: dict[str, Footprint]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, justify in (
        ("layer", "left"),
        ("type", "left"),
        ("output", "right"),
        ("params", "right"),
        ("MACs", "right"),
        ("activation", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_row("input", "", text(graph.input_shape), "", "", bytes_text(FLOAT * prod(graph.input_shape)))
    for node in graph.nodes:
        table.add_row(
            node.name,
            node.layer.type_name,
            text(node.shape),
            f"{node.parameter_count:,}" if node.parameter_count else "",
            f"{node.macs:,}" if node.macs else "",
            bytes_text(FLOAT * prod(node.shape)),
        )
    shown = console()
    shown.print(table)
    frozen = graph.parameter_count - graph.trainable_count
    held = f" ({graph.trainable_count:,} trained, {frozen:,} frozen)" if frozen else ""
    unused = graph.parameter_count - graph.used_count
    held += f" ({unused:,} of them in training only)" if unused else ""
    shown.print(f"\n{spec.name}: {graph.parameter_count:,} parameters{held}, {graph.macs:,} MACs an image")
    for mode, footprint in footprints.items():
        total, arena = bytes_text(footprint.total), bytes_text(footprint.arena)
        shown.print(f"memory for {mode} at batch {batch}: {total}, of it {arena} arena")
