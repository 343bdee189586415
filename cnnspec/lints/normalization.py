"""Normalization that another layer undoes, or whose statistics are misled or forgotten too fast."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at, readers
from cnnspec.spec.model import Spec

HALF = 0.5  # the share of the running statistics that stays in each step


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


def reversed_momentum(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of running statistics that forget more than they keep, because PyTorch's `momentum=0.1` was meant."""
    for node in graph.nodes:
        momentum = getattr(node.layer, "momentum", None) if node.layer.batch_statistics else None
        if momentum is not None and 0 < momentum < HALF:
            message = f"momentum {momentum:g} forgets {1 - momentum:.0%} of the running statistics at every step"
            help = f"PyTorch's momentum={momentum:g} is momentum: {1 - momentum:g} here: what stays"
            yield from at(node, "momentum-reversed", message, help, "momentum")
