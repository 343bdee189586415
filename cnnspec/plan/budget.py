"""The memory that `expect` allows, against what the plans would take."""

from __future__ import annotations

from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph
from cnnspec.graph.checks import over_budget
from cnnspec.plan.footprint import inference_footprint, training_footprint
from cnnspec.spec import Spec


def check_budgets(spec: Spec, graph: Graph) -> None:
    """SpecError where training or inference at the spec's batch size takes more memory than expected."""
    batch = spec.train.batch_size if spec.train else 1
    figures: dict[str, int | tuple[int, ...]] = {}
    if "infer_memory" in spec.expect:
        figures["infer_memory"] = inference_footprint(graph, batch).total
    if "train_memory" in spec.expect and spec.train is not None:
        figures["train_memory"] = training_footprint(graph, batch, spec.train).total
    found = over_budget(spec, figures)
    if found:
        raise SpecError(found)
