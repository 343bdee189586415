"""Which arrays a shard needs and when: the timeline of one pass, the life of every array, and its place in memory.

Moments count from 0: the forward pass of node i is moment i, the loss is moment N, the backward pass of node i is
moment 2N - i. A value lives from the moment that makes it to the last one that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Mode, batch_shape
from cnnspec.optim import Loss
from cnnspec.plan.gathered import gathered, gathered_shapes
from cnnspec.plan.memory import Claim, Placement, place, view
from cnnspec.plan.stages import Stage
from cnnspec.shapes import Shape

LOSS = ":loss"  # the reader of the output, among the readers that are nodes: no id of a spec has a colon

Key = tuple[str, str, str]  # ("value", name, ""), ("gradient", value, reader), ("buffer", node, name)


def value_key(name: str) -> Key:
    """The array of a value."""
    return ("value", name, "")


def gradient_key(value: str, reader: str, position: int = 0) -> Key:
    """The gradient of a value that one of its readers writes, for the input of that position."""
    return ("gradient", value, f"{reader}:{position}")


def buffer_key(node: str, name: str) -> Key:
    """A node's own array."""
    return ("buffer", node, name)


def part_key(node: str, member: int, name: str) -> Key:
    """An array that a member has for its rows of a node."""
    return ("buffer", node, f"{member}/{name}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The arrays of one shard of n images and their offsets in a region of `size` bytes."""

    n: int
    claims: Mapping[Key, Claim]
    offsets: Mapping[Key, int]
    size: int

    def bind(self, region: Array) -> dict[Key, Array]:
        """Every array as a view of the region."""
        return {key: view(region, self.offsets[key], claim) for key, claim in self.claims.items()}


def differentiated(graph: Graph) -> frozenset[str]:
    """The values that depend on a parameter that is trained: those that a gradient is wanted for."""
    wanted: set[str] = set()
    for node in graph.nodes:
        if (node.params and node.trainable) or wanted.intersection(node.inputs):
            wanted.add(node.name)
    return frozenset(wanted)


def has_gradients(node: Node) -> bool:
    """Whether a node has parameters that training changes."""
    return bool(node.params) and node.trainable


def gathered_key(node: str, name: str) -> Key:
    """The x or dy of all shards, side by side."""
    return ("gathered", node, name)


def echo_key(node: str, name: str) -> Key:
    """The gradient that a node has for a parameter of the node that it shares with."""
    return ("echo", node, name)


def lay_out(
    graph: Graph,
    n: int,
    mode: Mode,
    dtype: str,
    loss: Loss | None,
    *,
    overlapped: bool = False,
    stages: Sequence[Stage] = (),
) -> Layout:
    """The layout of one shard; nothing is allocated.

    Where it is `overlapped`, parameters' gradients may be computed at any time of the way back: what they read stays.
    In a stage that is cut a member may be at the first node while another is at the last one: what one of them needs
    stays throughout.
    """
    timeline = _Timeline(graph, n, mode, np.dtype(dtype), loss, stages)
    if overlapped and mode == "train":
        timeline.overlap()
    timeline.values()
    timeline.buffers()
    if mode == "train":
        timeline.gradients()
    return timeline.layout()


def lay_out_shared(graph: Graph, sizes: Sequence[int], mode: Mode, dtype: str) -> Layout:
    """The layout of what all shards share: arrays that depend on parameters alone, and what several shards gather."""
    n = sizes[0]
    claims = {
        buffer_key(node.name, name): Claim(buffer.shape, np.dtype(buffer.dtype or dtype), 0, 0)
        for node in graph.nodes
        for name, buffer in node.layer.scratch(*node.input_shapes, n=n, mode=mode).items()
        if buffer.lifetime == "prepare"
    }
    if mode == "train" and len(sizes) > 1:
        names = gathered(graph)
        claims |= {
            gathered_key(node.name, name): Claim(shape, np.dtype(dtype), 0, 0)
            for node in graph.nodes
            if node.name in names
            for name, shape in gathered_shapes(node, sum(sizes)).items()
        }
    return _placed(n, claims, place(list(claims.values())))


def _placed(n: int, claims: Mapping[Key, Claim], placement: Placement) -> Layout:
    return Layout(n, claims, dict(zip(claims, placement.offsets, strict=True)), placement.size)


class _Timeline:
    def __init__(
        self,
        graph: Graph,
        n: int,
        mode: Mode,
        dtype: np.dtype[np.generic],
        loss: Loss | None,
        stages: Sequence[Stage] = (),
    ) -> None:
        self.graph, self.n, self.mode, self.dtype, self.loss = graph, n, mode, dtype, loss
        self.end = len(graph.nodes)
        self.forward = {node.name: moment for moment, node in enumerate(graph.nodes)}
        self.backward = {node.name: 2 * self.end - moment for moment, node in enumerate(graph.nodes)}
        self.until = dict(self.backward)  # the moment at which a layer's backward pass is over
        self.wanted = differentiated(graph) if mode == "train" else frozenset()
        self.arrays: dict[Key, tuple[Shape, np.dtype[np.generic], int]] = {}  # shape, dtype, storage
        self.lives: list[tuple[int, int]] = []  # of each storage: several arrays may lie in one
        self.stages = {node.name: stage for stage in stages if stage.cuts for node in stage.nodes}
        self.spans = {  # from each moment of a stage that is cut to the first and the last one of it
            self.forward[name]: (self.forward[stage.nodes[0].name], self.forward[stage.nodes[-1].name])
            for name, stage in self.stages.items()
        }

    def overlap(self) -> None:
        """Let layers with parameters end with the whole pass."""
        self.until |= {name: 2 * self.end for name in self.wanted if has_gradients(self.node(name))}

    def claim(self, key: Key, shape: Shape, dtype: np.dtype[np.generic], first: int, last: int) -> None:
        self.arrays[key] = (shape, dtype, len(self.lives))
        self.lives.append((first, last))

    def share(self, key: Key, owner: Key, last: int) -> None:
        """Put an array into another's place; what writes there must be the last that reads it."""
        shape, dtype, storage = self.arrays[owner]
        self.arrays[key] = (shape, dtype, storage)
        first, before = self.lives[storage]
        self.lives[storage] = (first, max(before, last))

    def last_use(self, name: str) -> int:
        """The last moment that reads a value."""
        moments = [self.end] if name == self.graph.output.name else [-1]
        if name == INPUT and self.loss is not None and self.loss.reads_input:
            moments.append(self.end)
        for reader in self.graph.consumers(name):
            moments.append(self.forward[reader.name])
            if "x" in reader.layer.retains and reader.name in self.wanted:
                moments.append(self.until[reader.name])
        if name in self.wanted and "y" in self.node(name).layer.retains:
            moments.append(self.until[name])
        return max(moments)

    def node(self, name: str) -> Node:
        return self.graph.nodes[self.forward[name]]

    def values(self) -> None:
        self.claim(value_key(INPUT), batch_shape(self.graph.input_shape, self.n), self.dtype, -1, self.last_use(INPUT))
        for moment, node in enumerate(self.graph.nodes):
            layer, last, sources = node.layer, self.last_use(node.name), [value_key(name) for name in node.inputs]
            overwrites = layer.in_place and node.input_shapes[0] == node.shape and self.is_last(moment, sources)
            # rows that another member may still read for the rows beside them must stay
            overwrites &= moment not in self.spans or self.lives[self.arrays[sources[0]][2]][0] >= self.spans[moment][0]
            if "x" in layer.passes_on or overwrites:
                self.share(value_key(node.name), sources[0], last)
            else:
                self.claim(value_key(node.name), batch_shape(node.shape, self.n), self.dtype, moment, max(last, moment))

    def is_last(self, moment: int, read: Sequence[Key]) -> bool:
        """Whether the first array has no reader after this moment, nor another one at it by another name."""
        storage, *others = (self.arrays[key][2] for key in read)
        return self.lives[storage][1] == moment and storage not in others

    def buffers(self) -> None:
        for node in self.graph.nodes:
            forward, backward, end = self.forward[node.name], self.backward[node.name], self.until[node.name]
            lives = {"forward": (forward, forward), "kept": (forward, end)}
            lives |= dict.fromkeys(("shared", "input", "params"), (backward, end))
            cuts = self.stages[node.name].cuts[node.name] if node.name in self.stages else ()
            for name, buffer in node.layer.scratch(*node.input_shapes, n=self.n, mode=self.mode).items():
                if buffer.lifetime != "prepare" and not (cuts and buffer.lifetime == "forward"):
                    self.buffer(buffer_key(node.name, name), buffer, lives[buffer.lifetime])
            for member, cut in enumerate(cuts):
                shapes = cut.part.shapes(*node.input_shapes)
                for name, buffer in cut.part.layer.scratch(*shapes, n=self.n, mode=self.mode).items():
                    if buffer.lifetime == "forward":
                        self.buffer(part_key(node.name, member, name), buffer, lives["forward"])
        if self.loss is not None:
            for name, buffer in self.loss.scratch(self.graph.output.shape, self.n).items():
                self.buffer(buffer_key(LOSS, name), buffer, (self.end, self.end))

    def buffer(self, key: Key, buffer: Buffer, life: tuple[int, int]) -> None:
        self.claim(key, buffer.shape, np.dtype(buffer.dtype or self.dtype), *life)

    def gradients(self) -> None:
        output = self.graph.output
        if output.name in self.wanted:
            self.gradient(output.name, LOSS, self.end)
        for node in reversed(self.graph.nodes):
            if node.name not in self.wanted:
                continue
            for position, source in enumerate(node.inputs):
                if source in self.wanted:
                    self.gradient(source, node.name, self.backward[node.name], position)
            if node.share:
                for name, parameter in node.params.items():
                    life = self.backward[node.name], self.backward[node.share]
                    self.claim(echo_key(node.name, name), parameter.shape, self.dtype, *life)

    def gradient(self, value: str, reader: str, moment: int, position: int = 0) -> None:
        key, last = gradient_key(value, reader, position), self.until[value]
        shape = batch_shape(self.node(value).shape, self.n)
        if reader != LOSS:
            layer, above = self.node(reader).layer, self.graph.reads(reader)
            above_grads = [gradient_key(reader, node.name, i) for node, i in above] or [gradient_key(reader, LOSS)]
            read = [value_key(value)] if layer.gradient_place == "x" else above_grads
            overwrites = layer.gradient_place and self.arrays[read[0]][0] == shape and self.is_last(moment, read)
            if "dy" in layer.passes_on or overwrites:
                self.share(key, read[0], last)
                return
        self.claim(key, shape, self.dtype, moment, last)

    def layout(self) -> Layout:
        for storage, (first, last) in enumerate(self.lives):
            self.lives[storage] = self.spans.get(first, (first,))[0], self.spans.get(last, (last,))[-1]
        storages = [Claim((0,), np.dtype(np.uint8), *life) for life in self.lives]
        for shape, dtype, storage in self.arrays.values():
            first, last = self.lives[storage]
            claim = Claim(shape, dtype, first, last)
            if claim.size > storages[storage].size:
                storages[storage] = claim
        placement = place(storages)
        claims = {key: Claim(shape, dtype, *self.lives[s]) for key, (shape, dtype, s) in self.arrays.items()}
        offsets = {key: placement.offsets[storage] for key, (_, _, storage) in self.arrays.items()}
        return Layout(self.n, claims, offsets, placement.size)
