"""The part of a network that is exported: the nodes that its outputs need, with inputs and outputs by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cnnspec.diagnostics import RunError
from cnnspec.export.plain_weights import with_plain_weights
from cnnspec.graph import Graph, Node
from cnnspec.graph.joining import JOINED
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.layers.merge import Join
from cnnspec.layers.part import Part
from cnnspec.shapes import Shape
from cnnspec.train.network import Network


@dataclass(frozen=True, slots=True)
class Output:
    """An output: its name, empty if it is the only one, the value that it is, and the units of values learned."""

    name: str
    value: str
    shape: Shape
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """The nodes that a network's outputs depend on, and their arrays with the weights computed."""

    graph: Graph
    values: Mapping[str, Array]
    outputs: tuple[Output, ...]

    @property
    def inputs(self) -> dict[str, Shape]:
        """The shapes of several inputs by name; empty if there is one, which has no name."""
        return {node.name: node.shape for node in self.graph.nodes if isinstance(node.layer, Part)}

    @property
    def several(self) -> bool:
        """Whether outputs have names."""
        return len(self.outputs) > 1


def exported_network(network: Network, *, at_inference: bool = False) -> ExportedNetwork:
    """Return the part that its outputs depend on; `at_inference` leaves out the layers that only training needs."""
    graph, values = with_plain_weights(network.graph, dict(network.weights.arrays()))
    outputs = _outputs(network)
    if len(outputs) > 1:
        return ExportedNetwork(*_with_outputs(graph, values, outputs, at_inference=at_inference))
    graph = graph.without_losses
    graph = remove_dead_nodes(remove_train_only(graph) if at_inference else graph)
    return ExportedNetwork(graph, values, (replace(outputs[0], value=graph.output.name),))


def written_with(
    network: Network, known: Collection[str], refusal: str, cure: str, *, with_parameters: bool = False
) -> ExportedNetwork:
    """Return the part of a network that answers, for a format that writes layers of the types `known`.

    RunError if it has others, whose names replace {} in `refusal`; with `with_parameters`, layers without parameters
    may be unknown.
    """
    found = exported_network(network)
    nodes = [node for node in found.graph.nodes if not isinstance(node.layer, Part)]
    asked = {node.layer.type_name for node in nodes if node.params or not with_parameters}
    if strange := sorted(asked - set(known)):
        raise RunError(refusal.format(", ".join(strange)), cure)
    return found


def labels(network: Network) -> list[str] | dict[str, list[str]]:
    """Return the names of classes or values; of several outputs by the names of these."""
    if not network.output_names:
        return list(network.class_names)
    assert network.heads is not None
    return {name: list(network.heads.parts[name].target.names) for name in network.output_names}


def _outputs(network: Network) -> tuple[Output, ...]:
    graph, heads = network.graph, network.heads
    if heads is None:
        target = network.target
        return (Output("", graph.output.name, graph.output.shape, target.mean, target.deviation),)
    values = {head.name: graph.node(head.values[0]) for head in graph.heads}
    names = network.output_names or (heads.main,)
    named = bool(network.output_names)
    targets = {name: heads.parts[name].target for name in names}
    return tuple(
        Output(name if named else "", values[name].name, values[name].shape, target.mean, target.deviation)
        for name, target in targets.items()
    )


def _with_outputs(
    graph: Graph, values: Mapping[str, Array], outputs: Sequence[Output], *, at_inference: bool
) -> tuple[Graph, Mapping[str, Array], tuple[Output, ...]]:
    """Keep what several outputs depend on: passes see a node that reads all of them."""
    shapes = tuple(output.shape for output in outputs)
    layer = Join()
    node = Node(JOINED, layer, tuple(output.value for output in outputs), shapes, layer.infer_shape(*shapes))
    graph = replace(graph, nodes=(*graph.nodes, node), output_name=JOINED, heads=())
    graph = remove_dead_nodes(remove_train_only(graph) if at_inference else graph)
    kept = tuple(replace(output, value=name) for output, name in zip(outputs, graph.output.inputs, strict=True))
    last = max((node.name for node in graph.nodes[:-1]), key=[node.name for node in graph.nodes].index)
    return replace(graph, nodes=graph.nodes[:-1], output_name=last), values, kept
