"""What stands between the network's scores and its loss."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at
from cnnspec.spec.model import Spec


def softmax_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of two softmaxes in a row, the second one inside the loss."""
    if spec.train and spec.train.loss.applies == "softmax" and graph.output.layer.probabilities:
        message, help = f"{spec.train.loss.type_name} has a softmax in it", "remove this layer"
        yield from at(graph.output, "softmax-before-loss", message, help)


def activation_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of scores that pass an activation before a loss that has one of its own."""
    if spec.train and spec.train.loss.applies and graph.output.layer.increasing:
        message = f"{spec.train.loss.type_name} expects scores of any size"
        yield from at(graph.output, "activation-before-loss", message, "remove it")


def single_class(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a softmax over one output, which is 1 whatever the network does."""
    if spec.train and spec.train.loss.applies == "softmax" and graph.output.shape == (1,):
        message, help = "a softmax over one output is always 1", _of_one(spec)
        yield from at(graph.output, "single-class", message, help, "units")


def _of_one(spec: Spec) -> str:
    names = spec.data.class_names if spec.data else ()
    if not names:
        return "use one output a class, or, for two classes, binary_cross_entropy"
    return "use binary_cross_entropy, or units: 2" if len(names) == 2 else f"use units: {len(names)}"


def dropout_after_output(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of dropout that erases class scores."""
    if graph.output.layer.train_only:
        message, help = "drops the network's outputs", "put it before the last dense layer"
        yield from at(graph.output, "dropout-after-output", message, help)
