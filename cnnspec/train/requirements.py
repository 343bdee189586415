"""The check of a finished run against the metrics that `require` names."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.graph.checks import known_figures, named_metrics
from cnnspec.spec import Requirement, Spec
from cnnspec.target import KINDS, Target

LARGEST_WHOLE = 10**15  # larger numbers are written with an exponent
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


def plainly(figure: float) -> str:
    """Write a figure in as many digits as distinguish it from every other one: 0.98, 1, 0.9799999."""
    return str(int(figure)) if abs(figure) < LARGEST_WHOLE and figure == int(figure) else repr(float(figure))


def check_figures(spec: Spec, target: Target) -> None:
    """Raise RunError if a spec names a figure that the target lacks, which may be known from the data alone."""
    known = known_figures(spec, target) or ()
    for section, _, metric in named_metrics(spec):
        if metric.partition(".")[2] not in known:
            raise RunError(
                f"{section}: expected a figure of the data's target, which is {KINDS[target.kind]}, got {metric}",
                f"name one of {', '.join(known)}",
            )


def unmet(requirements: Sequence[Requirement], row: Mapping[str, Any]) -> list[str]:
    """One sentence for every requirement that the last epoch's metrics do not meet."""
    failures = []
    for required in requirements:
        value = row.get(required.metric)
        wanted = f"{required.metric} {required.comparison} {plainly(required.bound)}"
        if value is None:
            failures.append(f"{wanted}, got no such figure")
        elif not COMPARISONS[required.comparison](value, required.bound):
            failures.append(f"{wanted}, got {plainly(value)}")
    return failures
