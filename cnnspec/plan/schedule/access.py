"""Which arrays the programs of a layer read and write, as far as the layer's declarations tell.

Tasks carry this, so that a test can prove that no two of them that may run at once touch the same array.
"""

from __future__ import annotations

from cnnspec.graph import Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer, Operands
from cnnspec.shapes import Shape

Access = tuple[list[Array], list[Array]]  # the arrays that are read, and those that are written


class BackwardAccess:
    """The arrays that the three parts of a node's backward pass read and write in one shard."""

    def __init__(self, node: Node, o: Operands) -> None:
        scratch = node.layer.scratch(*node.input_shapes, n=o.output.shape[-1], mode="train")
        by_lifetime: dict[str, list[Array]] = {}
        for name, buffer in scratch.items():
            if name in o.buffers:
                by_lifetime.setdefault(buffer.lifetime, []).append(o.buffers[name])
        retained = [*(o.inputs if "x" in node.layer.retains else ()), *([o.y] if "y" in node.layer.retains else [])]
        kept, common = by_lifetime.get("kept", []), by_lifetime.get("shared", [])
        read = [*o.output_grads, *retained, *kept, *by_lifetime.get("prepare", [])]
        self.shared = [*read, *o.params.values()], common
        passes_on = "dy" in node.layer.passes_on  # every dx lies in the place of dy, which nothing writes to
        gradients = [dx for dx in o.input_grads if dx is not None and not passes_on]
        self.input = [*read, *common, *o.params.values()], [*gradients, *by_lifetime.get("input", [])]
        self.params = [*read, *common], [*o.grads.values(), *by_lifetime.get("params", [])]


def forward_access(layer: Layer, o: Operands, *inputs: Shape) -> Access:
    """The arrays that a layer's forward pass reads and writes; running statistics change at an all-reduce alone."""
    reads = [*o.inputs, *o.params.values(), *o.state.values()]
    writes = [] if "x" in layer.passes_on else [o.output]  # a value that is passed on lies where x does
    for name, buffer in layer.scratch(*inputs, n=o.output.shape[-1], mode=o.mode).items():
        if name in o.buffers and buffer.lifetime in ("prepare", "forward", "kept"):
            (reads if buffer.lifetime == "prepare" else writes).append(o.buffers[name])
    return reads, writes
