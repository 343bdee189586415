"""All that must be right before a spec becomes a network; `validate` and `compile` ask the same questions."""

from __future__ import annotations

from dataclasses import replace

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.checks import check, counted, over_budget
from cnnspec.spec import Spec
from cnnspec.spec.model import Variant, with_value

MEMORY = {"train_memory", "infer_memory"}


def checked(spec: Spec) -> Graph:
    """The graph of a spec that is right in itself, fits its data and loss and keeps its budgets; else SpecError."""
    graph = build(spec)
    found = misfits(spec, graph)
    if found:
        raise SpecError(found)
    return graph


def misfits(spec: Spec, graph: Graph) -> list[Diagnostic]:
    """What does not fit a graph: its data, its loss, its budgets."""
    found = check(spec, graph)
    fits = not {"output-mismatch", "loss-mismatch"} & {diagnostic.code for diagnostic in found}
    if MEMORY & spec.expect.keys() and fits:  # a loss that does not fit the output cannot be planned for
        found += over_budget(spec, memory(spec, graph))
    return found or [with_value(one.path, one.value, wrong) for one in spec.variants for wrong in _misfits_of(one)]


def _misfits_of(variant: Variant) -> list[Diagnostic]:
    """What does not fit where a value of the sweep is put in; budgets hold for the spec itself alone."""
    spec = replace(variant.spec, expect={})
    try:
        return misfits(spec, build(spec))
    except SpecError as error:
        return [found for found in error.diagnostics if found.severity == "error"]


def figures(spec: Spec, graph: Graph) -> dict[str, int | tuple[int, ...]]:
    """All that `expect` may name: what is counted, and the memory that it names."""
    return {**counted(graph), **(memory(spec, graph) if MEMORY & spec.expect.keys() else {})}


def memory(spec: Spec, graph: Graph) -> dict[str, int | tuple[int, ...]]:
    """The bytes that training and inference at the spec's batch size would take, as far as `expect` names them."""
    from cnnspec.plan import inference_footprint, training_footprint  # the engine, which no other check loads

    figures: dict[str, int | tuple[int, ...]] = {}
    if "infer_memory" in spec.expect:
        batch = spec.train.batch_size if spec.train else 1
        figures["infer_memory"] = inference_footprint(graph, batch, spec.train).total
    if "train_memory" in spec.expect and spec.train is not None:
        figures["train_memory"] = training_footprint(graph, spec.train.batch_size, spec.train).total
    return figures
