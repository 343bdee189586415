"""All checks of a spec before it becomes a network; `validate` and `compile` run the same ones."""

from __future__ import annotations

from dataclasses import replace

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.checks import check, counted, over_budget
from cnnspec.spec import Spec
from cnnspec.spec.model import Variant, with_value

MEMORY = {"train_memory", "infer_memory"}


def checked(spec: Spec) -> Graph:
    """Return the graph of a spec that is valid, fits its data and loss and keeps its budgets; SpecError otherwise."""
    graph = build(spec)
    diagnostics = mismatches(spec, graph)
    if diagnostics:
        raise SpecError(diagnostics)
    return graph


def mismatches(spec: Spec, graph: Graph) -> list[Diagnostic]:
    """Return errors where the data, the loss or the budgets of a spec do not fit its graph."""
    diagnostics = check(spec, graph)
    fits = not {"output-mismatch", "loss-mismatch"} & {diagnostic.code for diagnostic in diagnostics}
    if MEMORY & spec.expect.keys() and fits:  # a loss that does not fit the output cannot be planned for
        diagnostics += over_budget(spec, memory(spec, graph))
    return diagnostics or [
        with_value(variant.path, variant.value, wrong) for variant in spec.variants for wrong in _mismatches_of(variant)
    ]


def _mismatches_of(variant: Variant) -> list[Diagnostic]:
    """Return the errors of a spec with a value of its sweep put in; budgets hold only for the spec itself."""
    spec = replace(variant.spec, expect={})
    try:
        return mismatches(spec, build(spec))
    except SpecError as error:
        return [diagnostic for diagnostic in error.diagnostics if diagnostic.severity == "error"]


def figures(spec: Spec, graph: Graph) -> dict[str, int | tuple[int, ...]]:
    """Return all figures that `expect` may name: the counts, and those amounts of memory that it does name."""
    return {**counted(graph), **(memory(spec, graph) if MEMORY & spec.expect.keys() else {})}


def memory(spec: Spec, graph: Graph) -> dict[str, int | tuple[int, ...]]:
    """Return the bytes that training and inference need at the spec's batch size, if `expect` names them."""
    from cnnspec.plan import inference_footprint, training_footprint  # imports the engine, which no other check needs

    figures: dict[str, int | tuple[int, ...]] = {}
    if "infer_memory" in spec.expect:
        batch = spec.train.batch_size if spec.train else 1
        figures["infer_memory"] = inference_footprint(graph, batch, spec.train).total
    if "train_memory" in spec.expect and spec.train is not None:
        figures["train_memory"] = training_footprint(graph, spec.train.batch_size, spec.train).total
    return figures
