"""The gates of `require`: metrics that a finished run must reach."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.spec import Gate

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


def unmet(gates: Sequence[Gate], row: Mapping[str, Any]) -> list[str]:
    """One sentence for every gate that the last epoch's metrics do not meet."""
    failures = []
    for gate in gates:
        value = row.get(gate.metric)
        wanted = f"{gate.metric} {gate.comparison} {gate.bound:g}"
        if value is None:
            failures.append(f"{wanted}, got no such figure")
        elif not COMPARISONS[gate.comparison](value, gate.bound):
            failures.append(f"{wanted}, got {value:g}")
    return failures
