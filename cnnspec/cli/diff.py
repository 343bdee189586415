"""`diff A B`: what changed between two specs, for a review."""

from __future__ import annotations

import argparse
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnspec.cli.arguments import add_plugins
from cnnspec.diagnostics import RunError, SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.difference import Change, difference, settings_difference
from cnnspec.graph.render import resolved
from cnnspec.plan import inference_footprint, training_footprint
from cnnspec.spec import Spec, load

MOST_BYTES = 1 << 20  # of a file in the repository that is read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    parser.add_argument("before", metavar="A", help="the older spec, or with --git a revision")
    parser.add_argument("after", metavar="B", help="the newer spec")
    parser.add_argument("--git", action="store_true", help="A is a revision, such as HEAD, of the file B")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--exit-code", action="store_true", help="end with 1 where anything differs")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what changed; with --exit-code, 1 where anything did."""
    read = partial(load, plugins=arguments.plugins, allow_plugins=arguments.allow_plugins)
    after = read(arguments.after)
    before = _revision(arguments.before, Path(arguments.after), read) if arguments.git else read(arguments.before)
    graphs = build(before), build(after)
    changes = difference(*graphs)
    settings = settings_difference(
        *(resolved(spec, graph) for spec, graph in zip((before, after), graphs, strict=True))
    )
    rows = [*(_row(change) for change in changes), *(_settings_row(*setting) for setting in settings)]
    totals = _totals(before, after, *graphs)
    print(_markdown(rows, totals) if arguments.markdown else _text(rows, totals))
    return 1 if arguments.exit_code and rows else 0


def _revision(revision: str, path: Path, read: Callable[[Path], Spec]) -> Spec:
    """The spec as it was, with what it extends as that was: its folder at the revision, in a temporary place."""
    if revision.startswith("-"):  # git would take it for one of its options
        raise RunError(f"'{revision}' is no revision: it begins with a dash", "name a commit, a branch or a tag")
    command = ["git", "-C", str(path.resolve().parent), "archive", "--format=tar", revision, "."]
    with TemporaryDirectory() as folder:
        old = Path(folder) / path.name
        fault = _extract(command, folder)
        if not old.is_file():
            reason = fault.strip().removeprefix("fatal: ") or "it is not there"
            raise RunError(f"git cannot show {path} at {revision}: {reason}", "name a revision that has the file")
        try:
            return read(old)
        except SpecError as error:
            near = f"{revision}:{path.parent}"
            spans = [replace(d.span, file=d.span.file.replace(folder, near)) for d in error.diagnostics]
            found = [replace(d, span=span) for d, span in zip(error.diagnostics, spans, strict=True)]
            raise SpecError(found) from error


def _extract(command: list[str], folder: str) -> str:
    """Unpack the archive that a command writes, but for what is too large for a spec; what the command complains of."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise RunError("git is not installed", "compare two files instead") from error
    with process:
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if member.size <= MOST_BYTES:
                        archive.extract(member, folder, filter="data")
        except tarfile.TarError:
            pass  # an empty archive: there is a complaint
        return process.stderr.read().decode(errors="replace")


def _row(change: Change) -> tuple[str, str, str, str, str]:
    node = change.after or change.before
    assert node is not None
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    details = "; ".join(change.details) or node.layer.type_name
    return kind, change.name, details, _delta(change.parameters), _delta(change.macs)


def _said(spec: Spec, graph: Graph) -> dict[str, Any]:
    """The resolved spec, without the name that a file's name gives it."""
    tree = resolved(spec, graph)
    return tree if "name" in spec.place.values else {key: value for key, value in tree.items() if key != "name"}


def _settings_row(path: str, old: str | None, new: str | None) -> tuple[str, str, str, str, str]:
    kind = "added" if old is None else "removed" if new is None else "changed"
    return kind, path, " -> ".join(value for value in (old, new) if value is not None), "", ""


def _totals(before: Spec, after: Spec, old: Graph, new: Graph) -> list[tuple[str, int, int]]:
    return [
        ("parameters", old.parameter_count, new.parameter_count),
        ("MACs", old.macs, new.macs),
        ("memory", _memory(before, old), _memory(after, new)),
    ]


def _memory(spec: Spec, graph: Graph) -> int:
    """Bytes of training at the spec's batch size, or of inference where nothing is trained."""
    if spec.train is None:
        return inference_footprint(graph, 1).total
    return training_footprint(graph, spec.train.batch_size, spec.train).total


def _delta(count: int) -> str:
    return f"{count:+,}" if count else ""


def _text(rows: list[tuple[str, str, str, str, str]], totals: list[tuple[str, int, int]]) -> str:
    lines = [
        f"{kind:8}{name}: {details}" + "".join(f"  {delta} {what}" for delta, what in figures if delta)
        for kind, name, details, *deltas in rows
        for figures in [zip(deltas, ("parameters", "MACs"), strict=True)]
    ]
    lines += [f"{what}: {old:,} -> {new:,} ({_delta(new - old) or 'the same'})" for what, old, new in totals]
    return "\n".join(lines)


def _markdown(rows: list[tuple[str, str, str, str, str]], totals: list[tuple[str, int, int]]) -> str:
    lines = ["| | layer | what | parameters | MACs |", "|---|---|---|---:|---:|"]
    lines += [f"| {kind} | `{name}` | {details} | {p} | {m} |" for kind, name, details, p, m in rows]
    lines += ["", "| total | before | after | difference |", "|---|---:|---:|---:|"]
    lines += [f"| {what} | {old:,} | {new:,} | {_delta(new - old) or '0'} |" for what, old, new in totals]
    return "\n".join(lines)
