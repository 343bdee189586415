"""Whether a finished run reached the metrics that `require` names."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.spec import Requirement

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


def unmet(requirements: Sequence[Requirement], row: Mapping[str, Any]) -> list[str]:
    """One sentence for every requirement that the last epoch's metrics do not meet."""
    failures = []
    for required in requirements:
        value = row.get(required.metric)
        wanted = f"{required.metric} {required.comparison} {required.bound:g}"
        if value is None:
            failures.append(f"{wanted}, got no such figure")
        elif not COMPARISONS[required.comparison](value, required.bound):
            failures.append(f"{wanted}, got {value:g}")
    return failures
