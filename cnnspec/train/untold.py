"""The training of a network whose spec has no train section, to find out whether it can learn at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cnnspec.diagnostics import RunError
from cnnspec.fields import create
from cnnspec.graph import Graph, Node
from cnnspec.optim.settings import TrainSettings
from cnnspec.spec import Spec
from cnnspec.target import Kind, Target

IMAGES = 4  # the images of a batch: networks without a train section are often large
CLASSES = 10  # the classes to learn if the output is a map
LOSSES: Mapping[Kind, str] = {
    "class": "softmax_cross_entropy",
    "shares": "softmax_cross_entropy",
    "mask": "softmax_cross_entropy",
    "classes": "binary_cross_entropy",
    "values": "mean_squared_error",
}


def with_training(spec: Spec, graph: Graph) -> tuple[Spec, Graph]:
    """Add a train section with adam and a loss for the target to a spec, and to its graph an output for that loss.

    A dense layer follows an output that is a map, unless the data have masks. RunError for several targets.
    """
    kind = (spec.data.target if spec.data else Target()).kind
    if kind not in LOSSES:
        raise RunError("the spec has no train section", "add train: {epochs: 10, losses: {...}}")
    if len(graph.output.shape) == 3 and kind != "mask":
        graph = _classified(graph)
    chosen = _loss(spec, graph, LOSSES[kind])
    train = TrainSettings(epochs=1, batch_size=IMAGES, optimizer="adam", loss=chosen)
    return replace(spec, train=train), graph


def _loss(spec: Spec, graph: Graph, usual: str) -> str:
    """Return the usual loss or, for outputs within bounds such as probabilities, one that these can bring to 0."""
    layer, masks = graph.output.layer, spec.data is not None and spec.data.target.kind == "mask"
    if usual == "softmax_cross_entropy" and (layer.bounds or layer.probabilities or graph.output.shape[0] == 1):
        return usual if masks else "mean_squared_error"
    return usual


def _classified(graph: Graph) -> Graph:
    """Append `flatten` and a dense layer of CLASSES scores to a graph whose output is a map."""
    for name, fields in (("flat", "flatten"), ("scores", {"type": "dense", "units": CLASSES})):
        layer, shape = create("layer", fields), graph.output.shape
        params = layer.params(shape)
        node = Node(f"smoke:{name}", layer, (graph.output_name,), (shape,), layer.infer_shape(shape), params)
        graph = replace(graph, nodes=(*graph.nodes, node), output_name=node.name)
    return graph
