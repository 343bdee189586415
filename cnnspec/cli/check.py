"""What every verb that compiles a spec checks first."""

from __future__ import annotations

from cnnspec.graph import Graph, build
from cnnspec.graph.checks import check
from cnnspec.spec import Spec


def checked(spec: Spec) -> Graph:
    """The graph of a spec that is right in itself, fits its data and keeps its budgets; else SpecError."""
    graph = build(spec)
    check(spec, graph)
    if {"train_memory", "infer_memory"} & set(spec.expect):
        from cnnspec.plan.budget import check_budgets  # loads the engine, which nothing else here needs

        check_budgets(spec, graph)
    return graph
