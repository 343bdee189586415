"""A convolution or dense layer with the batch normalisation behind it folded into its weights, for inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnspec.graph.node import Graph, Node
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Layer, Mode, Operands, Steps, within
from cnnspec.shapes import Shape, Windows

FIRST = "first"  # the prefix of the names of the first layer's arrays


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold batch normalisation, for inference, into the layer before it if nothing else reads that layer."""
    nodes, folded, gone = {node.name: node for node in graph.nodes}, dict[str, Node](), set[str]()
    for node in graph.nodes:
        first = nodes.get(node.inputs[0])
        if first is not None and _can_fold(graph, first, node):
            gone.add(first.name)
            folded[node.name] = dataclasses.replace(
                node,
                layer=Folded(first.layer, node.layer),
                inputs=first.inputs,
                input_shapes=first.input_shapes,
                keys={**node.keys, **{f"{FIRST}.{name}": key for name, key in first.keys.items()}},
                macs=first.macs,
            )
    left = tuple(folded.get(node.name, node) for node in graph.nodes if node.name not in gone)
    return dataclasses.replace(graph, nodes=left)


def _can_fold(graph: Graph, first: Node, second: Node) -> bool:
    """Whether scaled weights and a bias for each channel of the first node can replace the second node."""
    one_a_channel = "bias" not in first.params or len(first.params["bias"].shape) == 1
    scales = first.layer.scales is not None and one_a_channel
    only_reader = len(graph.consumers(first.name)) == 1 and first.name != graph.output_name
    return scales and second.layer.normalises_channels and only_reader


class Folded(Layer):
    """y = (s W) x + s b + t, with s = weight / sqrt(running_variance + epsilon) and t = bias - s running_mean.

    W and b are the first layer's, the rest the normalisation's. Passes add it, specs do not. Source: Jacob et al.,
    "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018), section 3.2.
    """

    first: Any
    norm: Any

    def __init__(self, first: Layer, norm: Layer) -> None:
        fields = {
            "first": first.but(bias="channel"),
            "norm": norm,
            "type_name": f"{first.type_name}+batch_norm",
            # A part with some units would need its rows of the scaled weights, which are not parameters of this layer.
            "row_reads": None if first.row_reads == "units" else first.row_reads,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def kernel(self) -> str | None:
        """The algorithm that the spec pins for the first layer, if any."""
        return getattr(self.first, "kernel", None)

    def but(self, **changes: Any) -> Folded:
        """Return this fusion for a first layer with some fields changed."""
        return Folded(self.first.but(**changes), self.norm)

    def windows(self, shape: Shape) -> Windows:
        """Return how the windows of the first layer lie over a map."""
        windows: Windows = self.first.windows(shape)
        return windows

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return what the first layer makes."""
        output: Shape = self.first.infer_shape(*inputs)
        return output

    def convolution(self, *inputs: Shape) -> Any:
        """Return the convolution problem of the first layer."""
        return self.first.convolution(*inputs)

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the first layer's buffers, its scaled weights s W, s, and the bias s b + t."""
        buffers = {f"{FIRST}.{name}": buffer for name, buffer in self.first.scratch(*inputs, n=n, mode=mode).items()}
        params = self.first.params(*inputs)
        channels = params["bias"].shape
        scaled = Buffer(params[self.first.scales].shape, "prepare")
        return {**buffers, "scaled": scaled, "scale": Buffer(channels, "prepare"), "shift": Buffer(channels, "prepare")}

    def prepare(self, o: Operands) -> Steps:
        """Bind the scaling of the weights, and what the first layer prepares from them."""
        weight, bias = o.params[f"{FIRST}.{self.first.scales}"], o.params.get(f"{FIRST}.bias")
        gain, offset, epsilon = o.params["weight"], o.params["bias"], self.norm.epsilon
        mean, variance = o.state["running_mean"], o.state["running_variance"]
        scaled, scale, shift = (o.buffers[name] for name in ("scaled", "scale", "shift"))
        by_channel = scale.reshape(-1, *(1,) * (weight.ndim - 1))

        def fold() -> None:
            np.add(variance, epsilon, out=scale)
            np.sqrt(scale, out=scale)
            np.divide(gain, scale, out=scale)
            np.multiply(weight, by_channel, out=scaled)
            np.negative(mean, out=shift)
            if bias is not None:
                np.add(shift, bias, out=shift)
            np.multiply(shift, scale, out=shift)
            np.add(shift, offset, out=shift)

        return [fold, *self.first.prepare(self._bound(o))]

    def forward(self, o: Operands) -> Steps:
        """Bind the forward pass of the first layer with its scaled weights."""
        forward: Steps = self.first.forward(self._bound(o))
        return forward

    def _bound(self, o: Operands) -> Operands:
        first_params: dict[str, Array] = within(o.params, FIRST)
        params = {**first_params, self.first.scales: o.buffers["scaled"], "bias": o.buffers["shift"]}
        return dataclasses.replace(o, params=params, buffers=within(o.buffers, FIRST))
