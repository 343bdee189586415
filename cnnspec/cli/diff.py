"""`diff A B`: what changed between two specs, for a review."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from cnnspec.cli.arguments import add_plugins
from cnnspec.cli.markdown import code
from cnnspec.cli.revision import spec_at
from cnnspec.diagnostics import loggable
from cnnspec.graph import Graph, build
from cnnspec.graph.difference import Change, difference, settings_difference
from cnnspec.graph.render import resolved
from cnnspec.plan import inference_footprint, training_footprint
from cnnspec.spec import Spec, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("before", metavar="A", help="the older spec, or with --git a revision")
    parser.add_argument("after", metavar="B", help="the newer spec")
    parser.add_argument("--git", action="store_true", help="A is a revision, such as HEAD, of the file B")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--exit-code", action="store_true", help="end with 1 where anything differs")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the changes; with --exit-code, return 1 if there are any."""
    read = partial(load, plugins=arguments.plugins, allow_plugins=arguments.allow_plugins)
    after = read(arguments.after)
    before = spec_at(arguments.before, Path(arguments.after), read) if arguments.git else read(arguments.before)
    graphs = build(before), build(after)
    changes = difference(*graphs)
    settings = settings_difference(said(before, graphs[0]), said(after, graphs[1]))
    rows = [*(_row(change) for change in changes), *(_settings_row(*setting) for setting in settings)]
    old, new = figures(before, graphs[0]), figures(after, graphs[1])
    totals = [(name, old[name], new[name]) for name in new]
    print(_markdown(rows, totals) if arguments.markdown else _text(rows, totals))
    return 1 if arguments.exit_code and rows else 0


def _row(change: Change) -> tuple[str, str, str, str, str]:
    node = change.after or change.before
    assert node is not None
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    details = "; ".join(change.details) or node.layer.type_name
    return kind, change.name, details, _delta(change.parameters), _delta(change.macs)


def said(spec: Spec, graph: Graph) -> dict[str, Any]:
    """Return the resolved spec, without a name that is only that of its file."""
    tree = resolved(spec, graph)
    return tree if "name" in spec.place.values else {key: value for key, value in tree.items() if key != "name"}


def _settings_row(path: str, old: str | None, new: str | None) -> tuple[str, str, str, str, str]:
    kind = "added" if old is None else "removed" if new is None else "changed"
    return kind, path, " -> ".join(value for value in (old, new) if value is not None), "", ""


def figures(spec: Spec, graph: Graph) -> dict[str, int]:
    """Return the cost of a network: parameters, MACs, and bytes of memory in training, or else in inference."""
    return {"parameters": graph.parameter_count, "MACs": graph.macs, "memory": _memory(spec, graph)}


def _memory(spec: Spec, graph: Graph) -> int:
    """Return the bytes of training at the spec's batch size, or of inference if the spec has no train section."""
    if spec.train is None:
        return inference_footprint(graph, 1).total
    return training_footprint(graph, spec.train.batch_size, spec.train).total


def _delta(count: int) -> str:
    return f"{count:+,}" if count else ""


def _text(rows: list[tuple[str, str, str, str, str]], totals: list[tuple[str, int, int]]) -> str:
    lines = [
        loggable(f"{kind:8}{name}: {details}") + "".join(f"  {delta} {noun}" for delta, noun in figures if delta)
        for kind, name, details, *deltas in rows
        for figures in [zip(deltas, ("parameters", "MACs"), strict=True)]
    ]
    lines += [f"{noun}: {old:,} -> {new:,} ({_delta(new - old) or 'the same'})" for noun, old, new in totals]
    return "\n".join(lines)


def _markdown(rows: list[tuple[str, str, str, str, str]], totals: list[tuple[str, int, int]]) -> str:
    lines = ["| | layer | what | parameters | MACs |", "|---|---|---|---:|---:|"]
    lines += [f"| {kind} | {code(name)} | {code(details)} | {p} | {m} |" for kind, name, details, p, m in rows]
    lines += ["", "| total | before | after | difference |", "|---|---:|---:|---:|"]
    lines += [f"| {noun} | {old:,} | {new:,} | {_delta(new - old) or '0'} |" for noun, old, new in totals]
    return "\n".join(lines)
