"""What stands between the network's scores and its loss."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at
from cnnspec.spec.model import Spec

BOUNDED = ("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "sigmoid", "hard_sigmoid", "tanh")
ON_LOGITS = ("softmax_cross_entropy", "binary_cross_entropy")


def softmax_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Two softmaxes in a row, the second one inside the loss."""
    loss = spec.train.loss.type_name if spec.train else None
    if loss == "softmax_cross_entropy" and graph.output.layer.type_name == "softmax":
        message, help = "softmax_cross_entropy has a softmax in it", "remove this layer"
        yield from at(graph.output, "softmax-before-loss", message, help)


def activation_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Scores that cannot take every value, before a loss that has its own squashing function."""
    loss = spec.train.loss.type_name if spec.train else None
    kind = graph.output.layer.type_name
    if loss in ON_LOGITS and kind in BOUNDED:
        yield from at(graph.output, "activation-before-loss", f"{loss} expects scores of any size", "remove it")


def single_class(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A softmax over one output is 1, whatever the network does."""
    if spec.train and spec.train.loss.type_name == "softmax_cross_entropy" and graph.output.shape == (1,):
        message, help = "a softmax over one output is always 1", "use one output a class, or binary_cross_entropy"
        yield from at(graph.output, "single-class", message, help, "units")


def dropout_after_output(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Dropout that erases class scores."""
    if graph.output.layer.train_only:
        message, help = "drops the network's outputs", "put it before the last dense layer"
        yield from at(graph.output, "dropout-after-output", message, help)
