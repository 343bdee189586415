"""Code lenses: totals above `layers`, results above `expect`, and above `train` an estimate from the last run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from lsprotocol import types

from cnnspec.check import figures
from cnnspec.files import read_bounded
from cnnspec.lsp.documents import Document
from cnnspec.lsp.figures import short
from cnnspec.memory import bytes_text
from cnnspec.shapes import text
from cnnspec.spec.tree import Mapping

METRICS, MOST_BYTES = "metrics.jsonl", 1 << 22  # the file of a run that has a line for each epoch


def lenses(document: Document) -> list[types.CodeLens]:
    """Return the lenses of a spec whose layers are valid; empty for any other."""
    known = document.analysis
    if known.trace is None or known.trace.diagnostics or not known.trace.nodes or not isinstance(known.tree, Mapping):
        return []
    titles = {"layers": _totals(document), "expect": ", ".join(_expectations(document)), "train": _forecast(document)}
    return [
        types.CodeLens(document.text.range(span), types.Command(title, ""))
        for key, title in titles.items()
        if title and (span := known.tree.keys.get(key)) is not None and span.file == document.file
    ]


def _totals(document: Document) -> str:
    trace = document.analysis.trace
    assert trace is not None
    params, macs = sum(node.parameter_count for node in trace.nodes), sum(node.macs for node in trace.nodes)
    shape = trace.shapes[trace.output]
    output = f", output {text(shape)}" if shape is not None else ""
    return f"{len(trace.nodes):,} layers, {params:,} parameters, {short(macs)} MACs an image{output}"


def _expectations(document: Document) -> Iterator[str]:
    """Yield a phrase for each figure in `expect`: its value, and whether it is expected, or its share of the bound."""
    trace = document.analysis.trace
    assert trace is not None
    if not trace.spec.expect:
        return
    found = figures(trace.spec, document.analysis.graph or trace.graph())
    for name, budget in trace.spec.expect.items():
        figure = found.get(name)
        if figure is None:
            continue
        if budget.exact is not None:
            yield f"{name} {_text(name, figure)} {'as expected' if figure == budget.exact else 'not as expected'}"
        elif isinstance(figure, int):
            bound = budget.maximum if budget.maximum is not None else budget.minimum
            share = f", {100 * figure / bound:.0f}% of {_text(name, bound)}" if bound else ""
            yield f"{name} {_text(name, figure)}{share}"


def _forecast(document: Document) -> str:
    """Return the time of a training at the speed of the newest run of that name, in `runs` here or beside the spec."""
    trace = document.analysis.trace
    assert trace is not None
    epochs = trace.spec.train.epochs if trace.spec.train is not None else None
    folders = {Path.cwd() / "runs", Path(document.file).parent / "runs"}
    found = [path for folder in folders for path in folder.glob(f"{trace.spec.name}/{METRICS}")]
    try:
        rows = read_bounded(max(found, key=os.path.getmtime), MOST_BYTES).decode().splitlines()
        seconds = [float(json.loads(row)["seconds"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if not isinstance(epochs, int) or not seconds:
        return ""
    each = sum(seconds) / len(seconds)
    return f"about {_duration(each * epochs)}: {epochs} epochs of {_duration(each)}, as in the last run"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _text(name: str, figure: int | tuple[int, ...]) -> str:
    if isinstance(figure, tuple):
        return text(figure)
    return bytes_text(figure) if name.endswith("_memory") else f"{figure:,}"
