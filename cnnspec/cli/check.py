"""What every verb that compiles a spec checks first."""

from __future__ import annotations

from cnnspec.graph import Graph, build
from cnnspec.graph.checks import check
from cnnspec.plan.budget import check_budgets
from cnnspec.spec import Spec


def checked(spec: Spec) -> Graph:
    """The graph of a spec that is right in itself, fits its data and keeps its budgets; else SpecError."""
    graph = build(spec)
    check(spec, graph)
    check_budgets(spec, graph)
    return graph
