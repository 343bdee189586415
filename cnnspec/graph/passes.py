"""Passes: functions from graph to graph, each with one purpose, that change results at most by rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from cnnspec.graph.fusions.folded_batch_norm import fold_batch_norm
from cnnspec.graph.fusions.pooled_convolution import pooling_in_convolution
from cnnspec.graph.node import INPUT, Graph, Node
from cnnspec.layers.base import Mode
from cnnspec.layers.merge import Fork

Pass = Callable[[Graph], Graph]


def remove_dead_nodes(graph: Graph) -> Graph:
    """Remove the nodes that neither output nor losses depend on; tied parameters that others use stay."""
    needed = graph.needed
    return dataclasses.replace(graph, nodes=tuple(node for node in graph.nodes if node.name in needed))


def remove_train_only(graph: Graph) -> Graph:
    """Remove layers that do nothing at inference, such as dropout."""
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if node.layer.train_only and (node.name != graph.output_name or inputs[0] != INPUT):
            renamed[node.name] = inputs[0]
        else:
            nodes.append(dataclasses.replace(node, inputs=inputs))
    output = renamed.get(graph.output_name, graph.output_name)
    return dataclasses.replace(graph, nodes=tuple(nodes), output_name=output)


def activation_behind_pooling(graph: Graph) -> Graph:
    """Swap an increasing activation with the max pooling that is its only reader: max(f(x)) = f(max(x)).

    The gradient is the same too: if relu makes a whole window 0, no element of it has a gradient.
    """
    nodes = list(graph.nodes)
    for first in range(len(nodes)):
        activation = nodes[first]
        readers = graph.consumers(activation.name)
        if not activation.layer.increasing or len(readers) != 1 or not readers[0].layer.selects_maximum:
            continue
        if activation.name == graph.output_name:
            continue
        second = next(i for i, node in enumerate(nodes) if node.name == readers[0].name)
        pooling = nodes[second]
        # Names stay with positions, so that the readers of the pooled value find it under its old name.
        nodes[first] = dataclasses.replace(
            pooling, name=activation.name, inputs=activation.inputs, input_shapes=activation.input_shapes
        )
        nodes[second] = dataclasses.replace(
            activation,
            name=pooling.name,
            inputs=(activation.name,),
            input_shapes=(pooling.shape,),
            shape=pooling.shape,
        )
    return dataclasses.replace(graph, nodes=tuple(nodes))


def explicit_fan_out(graph: Graph) -> Graph:
    """Put a fork behind each value with several readers: it sums their gradients, so that no layer accumulates."""
    forks: dict[str, Node] = {}
    values = [(INPUT, graph.input_shape), *((node.name, node.shape) for node in graph.nodes)]
    for name, shape in values:
        if len(graph.consumers(name)) > 1:
            # No id of a spec has a colon, so the name is not in use.
            forks[name] = Node(f"{name}:fork", Fork(), (name,), (shape,), shape)
    nodes: list[Node] = [forks[INPUT]] if INPUT in forks else []
    for node in graph.nodes:
        inputs = tuple(forks[name].name if name in forks else name for name in node.inputs)
        nodes.append(dataclasses.replace(node, inputs=inputs))
        if node.name in forks:
            nodes.append(forks[node.name])
    return dataclasses.replace(graph, nodes=tuple(nodes))


TRAINING: Mapping[str, Pass] = {
    "remove-dead-nodes": remove_dead_nodes,
    "activation-behind-pooling": activation_behind_pooling,
    "pooling-in-convolution": pooling_in_convolution,
    "explicit-fan-out": explicit_fan_out,
}
INFERENCE: Mapping[str, Pass] = {
    "remove-train-only": remove_train_only,  # nodes that only such a layer reads are dead then
    "remove-dead-nodes": remove_dead_nodes,
    "fold-batch-norm": fold_batch_norm,
    "activation-behind-pooling": activation_behind_pooling,
    "pooling-in-convolution": pooling_in_convolution,
}
PASSES: Mapping[Mode, Mapping[str, Pass]] = {"train": TRAINING, "infer": INFERENCE}


def optimise(graph: Graph, passes: Mapping[str, Pass]) -> Graph:
    """Run passes in their order; return the graph of the last one."""
    for transform in passes.values():
        graph = transform(graph)
    return graph
