"""Layers that a normalization behind them undoes, or that mislead it."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at, readers
from cnnspec.spec.model import Spec


def bias_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A bias that batch_norm takes away again."""
    reads = readers(graph)
    for node in graph.nodes:
        if "bias" in node.params and node.params.keys() == {"weight", "bias"} and len(reads[node.name]) == 1:
            (reader,) = reads[node.name]
            if reader.layer.type_name == "batch_norm" and node.layer.type_name != "batch_norm":
                yield from at(
                    node, "bias-before-norm", "its bias has no effect before batch_norm", "write bias: none", "bias"
                )


def dropout_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Dropout changes the variance that batch_norm learns, but not at inference (Li et al. 2019)."""
    reads = readers(graph)
    for node in graph.nodes:
        if node.layer.train_only and any(reader.layer.type_name == "batch_norm" for reader in reads[node.name]):
            message = "batch_norm right behind it learns a variance that inference does not have"
            yield from at(node, "dropout-before-norm", message, "put it behind the last batch_norm")
