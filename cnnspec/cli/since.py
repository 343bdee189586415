"""What accounts for a count of parameters that a spec does not meet: the layers that differ from the last run of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnnspec.diagnostics import Diagnostic, PluginError, RunError, SpecError
from cnnspec.graph import build
from cnnspec.graph.difference import Change, difference
from cnnspec.spec import Spec, load

RUNS = Path("runs")  # where `train` leaves runs unless told otherwise
MOST_LAYERS = 6  # that a note lists


def with_last_run(found: Sequence[Diagnostic], spec: Spec) -> list[Diagnostic]:
    """The findings, that of a missed `expect.params` with the layers that had other counts in the last run."""
    return [
        replace(finding, notes=(*finding.notes, *_compared(spec))) if finding.path == "expect.params" else finding
        for finding in found
    ]


def _compared(spec: Spec) -> tuple[str, ...]:
    """A sentence on what differs from the last run of the same name; none where there is no run, or no difference."""
    run = _last_run(spec.name)
    if run is None:
        return ()
    try:
        before, after = build(load(run / "spec.yaml")), build(spec)
    except (SpecError, PluginError, RunError, OSError):  # of a run by another version, or with a plugin that is gone
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
    """The run of that name that began last, of which the directories are NAME, NAME-2, NAME-3 and so on."""
    number = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    found = {
        path: int(match[1] or 1)
        for path in (RUNS.iterdir() if RUNS.is_dir() else ())
        if (match := number.fullmatch(path.name)) and (path / "spec.yaml").is_file()
    }
    return max(found, key=lambda path: found[path], default=None)
