"""The parameters of each layer, and likely reasons for a count that differs from the expected one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cnnspec.graph.node import Graph, Node
from cnnspec.shapes import size

MOST_LAYERS = 8  # the most layers that a note lists


def by_layer(graph: Graph) -> str:
    """The parameters of each layer, block or stage of the outermost list, the largest first."""
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        counts[node.name.partition(".")[0]] += node.parameter_count
    listed = [f"{name} {count:,}" for name, count in counts.most_common() if count]
    more = [f"{len(listed) - MOST_LAYERS} others"] if len(listed) > MOST_LAYERS else []
    return ", ".join([*listed[:MOST_LAYERS], *more]) or "no layer has any"


def explanations(graph: Graph, wanted: int) -> Iterator[str]:
    """Yield explanations of the exact difference to a count: biases, running statistics, outputs, input channels."""
    more = wanted - graph.parameter_count
    convolutions = [node for node in graph.nodes if "weight" in node.params and len(node.shape) == 3 and not node.share]
    normalised = [
        node
        for node in convolutions
        if "bias" in node.params and any(reader.layer.normalises_channels for reader in graph.consumers(node.name))
    ]
    if normalised and more == -sum(map(_biases, normalised)):
        yield f"the biases of {len(normalised)} layers in front of a normalisation are as many: write bias: none"
    bare = [node for node in convolutions if "bias" not in node.params]
    if bare and more == sum(node.shape[0] for node in bare):
        yield f"the {len(bare)} convolutions without biases would have as many: write bias: channel"
    if more and more == sum(size(state.shape) for node in graph.nodes for state in node.state.values()):
        yield "running means and variances are as many: some frameworks count them, but they are not learned"
    last = next((node for node in reversed(graph.nodes) if node.params), None)
    if last is not None and len(last.shape) == 1:
        outputs_of_unit = last.parameter_count // last.shape[0]
        units = last.shape[0] + more // outputs_of_unit if outputs_of_unit else 0
        if outputs_of_unit and more and more % outputs_of_unit == 0 and units > 0:
            yield f"it would be met by units: {units} in '{last.name}'"
    first = graph.nodes[0]
    if first in convolutions and more:
        channels = graph.input_shape[0]
        outputs_of_unit = size(first.params["weight"].shape) // channels
        if more % outputs_of_unit == 0 and channels + more // outputs_of_unit in (1, 3):
            yield f"it would be met by an input of {channels + more // outputs_of_unit} channels"


def _biases(node: Node) -> int:
    return size(node.params["bias"].shape)
