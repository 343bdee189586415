"""Layers between the network's scores and its loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph, Node
from cnnspec.lints.warning import at
from cnnspec.spec.model import Spec

if TYPE_CHECKING:  # a spec without training needs no losses
    from cnnspec.optim import Loss


def scored(spec: Spec, graph: Graph) -> Iterator[tuple[Node, Loss]]:
    """Yield every layer that a loss reads, with the loss."""
    if spec.train is not None and spec.train.losses is None:
        yield graph.output, spec.train.loss
    elif spec.train is not None and spec.train.losses is not None:
        yield from ((graph.node(head.values[0]), spec.train.losses[head.name].loss) for head in graph.heads)


def softmax_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of two softmaxes in a row, the second one inside the loss."""
    for node, loss in scored(spec, graph):
        if loss.applies == "softmax" and node.layer.probabilities:
            message, help = f"{loss.type_name} has a softmax in it", "remove this layer"
            yield from at(node, "softmax-before-loss", message, help)


def activation_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of scores that pass an activation before a loss that applies its own."""
    for node, loss in scored(spec, graph):
        if loss.applies and node.layer.increasing:
            message = f"{loss.type_name} expects scores of any size"
            yield from at(node, "activation-before-loss", message, "remove it")


def single_class(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a softmax over one output, which is always 1."""
    for node, loss in scored(spec, graph):
        if loss.applies == "softmax" and node.shape == (1,):
            message, help = "a softmax over one output is always 1", _of_one(spec)
            yield from at(node, "single-class", message, help, "units")


def _of_one(spec: Spec) -> str:
    names = spec.data.class_names if spec.data else ()
    if not names:
        return "use one output a class, or, for two classes, binary_cross_entropy"
    return "use binary_cross_entropy, or units: 2" if len(names) == 2 else f"use units: {len(names)}"


def dropout_after_output(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of dropout that erases class scores."""
    for node in [graph.node(head.values[0]) for head in graph.heads] or [graph.output]:
        if node.layer.train_only and len(node.inputs) == 1:
            message, help = "drops the network's outputs", "put it before the last dense layer"
            yield from at(node, "dropout-after-output", message, help)
