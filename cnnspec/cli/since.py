"""Explains a missed count of parameters by the layers that differ from the last run of the same spec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnnspec.diagnostics import Diagnostic, PluginError, RunError, SpecError
from cnnspec.graph import build
from cnnspec.graph.difference import Change, difference
from cnnspec.spec import Spec, load

RUNS = Path("runs")  # the folder in which `train` makes runs by default
MOST_LAYERS = 6  # layers listed in a note


def with_last_run(found: Sequence[Diagnostic], spec: Spec) -> list[Diagnostic]:
    """Return the findings; a missed `expect.params` gets a note on the layers that changed since the last run."""
    return [
        replace(finding, notes=(*finding.notes, *_compared(spec))) if finding.path == "expect.params" else finding
        for finding in found
    ]


def _compared(spec: Spec) -> tuple[str, ...]:
    """Return a sentence on the layers that differ from the last run of the same name; empty if there is none."""
    run = _last_run(spec.name)
    if run is None:
        return ()
    try:
        before, after = build(load(run / "spec.yaml")), build(spec)
    except (SpecError, PluginError, RunError, OSError):  # the run is of another version, or its plugin is missing
        return ()
    changes = [change for change in difference(before, after) if change.parameters]
    if not changes:
        return ()
    listed = ", ".join(map(_line, changes[:MOST_LAYERS]))
    more = f", {len(changes) - MOST_LAYERS} others" if len(changes) > MOST_LAYERS else ""
    return (f"since {run.as_posix()}, which has {before.parameter_count:,} parameters: {listed}{more}",)


def _line(change: Change) -> str:
    if change.before is None:
        return f"{change.name} added {change.parameters:+,}"
    if change.after is None:
        return f"{change.name} removed {change.parameters:+,}"
    counts = f"{change.before.parameter_count:,} -> {change.after.parameter_count:,}"
    return f"{change.name} {counts}"


def _last_run(name: str) -> Path | None:
    """Return the newest run of that name: the directory with the highest number of NAME, NAME-2, NAME-3 and so on."""
    number = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    runs = {
        path: int(match[1] or 1)
        for path in (RUNS.iterdir() if RUNS.is_dir() else ())
        if (match := number.fullmatch(path.name)) and (path / "spec.yaml").is_file()
    }
    return max(runs, key=lambda path: runs[path], default=None)
