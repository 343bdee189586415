"""Layers and ids that make no difference to the network."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import at, readers, warning
from cnnspec.spec.entries import every
from cnnspec.spec.model import BlockEntry, LayerEntry, Spec


def dead_layers(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of layers that the output does not depend on."""
    alive = {graph.output.name, *(value for head in graph.heads for value in head.values)}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs, [node.share] if node.share else [])
    needed = alive.union(node.share for node in graph.nodes if node.share)
    reads = readers(graph)
    for node in graph.nodes:
        if node.name not in needed:
            message, help = "the output does not depend on it", "read it with `from`, or remove it"
            if not reads[node.name]:
                message += f": the network's output is its last layer, here {graph.output.name}"
                help = "read it with `from`, give it a loss of its own under train: losses, or remove it"
                help = "name it in one of the losses, read it with `from`, or remove it" if graph.heads else help
            yield from at(node, "dead-layer", message, help)


def linear_chains(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of two dense layers without a layer between them, which equal one, unless the first is a bottleneck."""
    reads = readers(graph)
    for node in graph.nodes:
        chain = [node, *reads[node.name]]
        if len(chain) != 2 or not all(link.layer.fully_connected for link in chain):
            continue
        if node.shape[0] >= min(node.input_shapes[0][0], chain[1].shape[0]):
            message = f"no activation stands between it and {chain[1].name}: together they are one dense layer"
            yield from at(node, "linear-chain", message, "put an activation between them")


def no_effect(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of layers whose output is their input."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        before = nodes.get(node.inputs[0])
        if node.layer.rectifies and before is not None and before.layer.non_negative:
            yield from at(node, "no-effect", f"its input comes from {before.name} and is never negative", "remove it")
        elif node.layer.arity[1] is None and len(node.inputs) == 1:
            help = "name all of its inputs with from: [a, b], write type: residual, or remove it"
            yield from at(node, "no-effect", "it has one input, and makes the same of it", help)
        elif node.layer.covers_map and node.input_shapes[0][1:] == (1, 1):
            yield from at(node, "no-effect", "its input has one pixel", "use flatten")


def unused_ids(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of ids that nothing refers to, except that of the last layer, which names the output."""
    entries = list(every(spec.layers))
    read = {name for entry in entries for name in entry.inputs or ()}
    read |= {entry.share for entry in entries if isinstance(entry, LayerEntry) and entry.share}
    read |= {value for entry in entries if isinstance(entry, BlockEntry) for _, value in entry.outputs}
    losses = spec.train.losses if spec.train else None
    read |= {layer for name, term in (losses or {}).items() for layer in term.layer or (name,)}
    varied = [path.split(".") for path in (spec.sweep.values if spec.sweep else ())]
    read |= {steps[1] for steps in varied if steps[0] == "layers" and len(steps) > 1}
    init = spec.train.init if spec.train else None
    transferred = (*init.layers, *init.rename) if init else ()  # weights are found by the layer's name
    read |= {entry.name for entry in entries if any(fnmatchcase(entry.name, pattern) for pattern in transferred)}
    # An id in a block is used if a reference leads into any instance of the block.
    written = {entry.place.of("id") for entry in entries if entry.name in read}
    for entry in entries:
        named = isinstance(entry, LayerEntry) and entry.named and entry is not spec.layers[-1]
        if named and entry.name not in read and entry.place.of("id") not in written:
            message = f"nothing refers to the id '{entry.name}'"
            yield warning("unused-id", message, entry.place.of("id"), entry.place, "remove the id, or refer to it")
