"""Layers that a normalization behind them undoes, or that mislead it."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at, readers
from cnnspec.spec.model import Spec


def bias_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a bias that the normalization after it subtracts again."""
    reads = readers(graph)
    for node in graph.nodes:
        if "bias" in node.params and node.params.keys() == {"weight", "bias"} and len(reads[node.name]) == 1:
            (reader,) = reads[node.name]
            if reader.layer.batch_statistics and not node.layer.batch_statistics:
                message = f"its bias has no effect before {reader.layer.type_name}"
                yield from at(node, "bias-before-norm", message, "write bias: none", "bias")


def dropout_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of dropout that changes the variance which a normalization learns, but not at inference (Li et al. 2019)."""
    reads = readers(graph)
    for node in graph.nodes:
        norm = next((reader.layer for reader in reads[node.name] if reader.layer.batch_statistics), None)
        if node.layer.train_only and norm is not None:
            message = f"{norm.type_name} right behind it learns a variance that inference does not have"
            yield from at(node, "dropout-before-norm", message, f"put it behind the last {norm.type_name}")
