"""Liveness: which arrays a shard needs, from which moment of a step to which moment, and where they lie in memory.

Moments count from 0: the forward pass of node i is moment i, the loss is moment N, the backward pass of node i is
moment 2N - i. An array lives from the moment that first writes it to the last one that reads it; arrays whose lives do
not overlap may lie at the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnspec.graph import INPUT, Graph
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Mode, batch_shape
from cnnspec.optim import Loss
from cnnspec.plan.memory.arena import Claim, Placement, place, view
from cnnspec.plan.schedule.partition import Partition, Stage
from cnnspec.shapes import Shape

LOSS = "loss"  # the reader of the output, among the readers that are nodes

Key = tuple[str, str, str]  # the sort of array, the node's name, and the array's name within the node


def value_key(name: str) -> Key:
    """The key of a node's output."""
    return ("value", name, "")


def gradient_key(value: str, reader: str, position: int = 0) -> Key:
    """The key of the gradient that node `reader` writes for the value at this position of its inputs."""
    return ("gradient", value, f"{reader}:{position}")


def buffer_key(node: str, name: str) -> Key:
    """The key of a scratch array of a node."""
    return ("buffer", node, name)


def part_key(node: str, part: int, name: str) -> Key:
    """The key of a scratch array of one part of a node that is computed by rows."""
    return ("buffer", node, f"{part}/{name}")


def batch_key(node: str, name: str) -> Key:
    """The key of a node's x or dy for the whole batch, in which the images of all shards lie side by side."""
    return ("batch", node, name)


def tied_key(node: str, name: str) -> Key:
    """The key of a node's gradient for a tied parameter, which is later added to another node's gradient."""
    return ("tied", node, name)


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


def layouts(
    graph: Graph, partition: Partition, mode: Mode, dtype: str, loss: Loss | None, *, reuse: bool = True
) -> tuple[Layout, list[Layout]]:
    """The layout of the arrays that all shards share, and a layout for each shard; nothing is allocated.

    With `reuse` arrays whose lives do not overlap share bytes; without, each has its own.
    """
    by_size = {
        n: _Liveness(graph, n, mode, np.dtype(dtype), loss, partition, reuse=reuse).layout()
        for n in set(partition.shards)
    }
    return _common(graph, partition, mode, np.dtype(dtype)), [by_size[n] for n in partition.shards]


def _common(graph: Graph, partition: Partition, mode: Mode, dtype: np.dtype[np.generic]) -> Layout:
    """The layout of prepared arrays and of the arrays in which x and dy of all shards lie side by side."""
    n = partition.shards[0]
    claims = {
        buffer_key(node.name, name): Claim(buffer.shape, np.dtype(buffer.dtype or dtype), 0, 0)
        for node in graph.nodes
        for name, buffer in node.layer.scratch(*node.input_shapes, n=n, mode=mode).items()
        if buffer.lifetime == "prepare"
    }
    for name in partition.batch_gradients:
        node = graph.node(name)
        for of, shape in (("x", node.input_shapes[0]), ("dy", node.shape)):
            claims[batch_key(name, of)] = Claim(batch_shape(shape, partition.batch), dtype, 0, 0)
    return _placed(n, claims, place(list(claims.values())))


def _placed(n: int, claims: Mapping[Key, Claim], placement: Placement) -> Layout:
    return Layout(n, claims, dict(zip(claims, placement.offsets, strict=True)), placement.size)


class _Liveness:
    """The arrays of one shard, collected in the order of the passes.

    A storage is a place in memory of one array, or of several in turn: each is written when the array before it has
    been read for the last time.
    """

    def __init__(
        self,
        graph: Graph,
        n: int,
        mode: Mode,
        dtype: np.dtype[np.generic],
        loss: Loss | None,
        partition: Partition,
        *,
        reuse: bool,
    ) -> None:
        self.graph, self.n, self.mode, self.dtype, self.loss = graph, n, mode, dtype, loss
        self.partition, self.reuse = partition, reuse
        self.loss_moment = len(graph.nodes)
        self.forward = {node.name: moment for moment, node in enumerate(graph.nodes)}
        self.backward = {node.name: 2 * self.loss_moment - moment for moment, node in enumerate(graph.nodes)}
        # Gradients of parameters that wait in the work queue may be computed at any moment up to the end of the step.
        self.backward_end = self.backward | dict.fromkeys(partition.deferred, 2 * self.loss_moment)
        self.arrays: dict[Key, tuple[Shape, np.dtype[np.generic], int]] = {}  # shape, dtype, storage
        self.lives: list[tuple[int, int]] = []  # the first and last moment of each storage
        self.stages: dict[str, Stage] = {}  # the stage of each node that is computed by parts
        self.spans: dict[int, tuple[int, int]] = {}  # each such node's moment to the first and last moment of its stage
        for stage in partition.stages:
            if stage.parts:
                span = self.forward[stage.nodes[0].name], self.forward[stage.nodes[-1].name]
                self.stages |= {node.name: stage for node in stage.nodes}
                self.spans |= {self.forward[node.name]: span for node in stage.nodes}

    def layout(self) -> Layout:
        """Collect all arrays and give each storage its place."""
        self.collect_values()
        self.collect_buffers()
        if self.mode == "train":
            self.collect_gradients()
        storages = [Claim((0,), np.dtype(np.uint8), *self.life(storage)) for storage in range(len(self.lives))]
        for shape, dtype, storage in self.arrays.values():
            claim = replace(storages[storage], shape=shape, dtype=dtype)
            if claim.size > storages[storage].size:
                storages[storage] = claim
        placement = place(storages)
        claims = {key: Claim(shape, dtype, *self.life(s)) for key, (shape, dtype, s) in self.arrays.items()}
        offsets = {key: placement.offsets[storage] for key, (_, _, storage) in self.arrays.items()}
        return Layout(self.n, claims, offsets, placement.size)

    def life(self, storage: int) -> tuple[int, int]:
        """The first and last moment of a storage.

        Within a stage one worker may be at the first node while another is at the last one, so an array that any node
        of the stage needs lives throughout the stage.
        """
        first, last = self.lives[storage] if self.reuse else (-1, 2 * self.loss_moment)
        return self.spans.get(first, (first,))[0], self.spans.get(last, (last,))[-1]

    def claim(self, key: Key, shape: Shape, dtype: np.dtype[np.generic], first: int, last: int) -> None:
        """Give an array a storage of its own."""
        self.arrays[key] = (shape, dtype, len(self.lives))
        self.lives.append((first, last))

    def overlay(self, key: Key, below: Key, last: int) -> None:
        """Put an array into the storage of array `below`; the node that writes it must read `below` last."""
        shape, dtype, storage = self.arrays[below]
        self.arrays[key] = (shape, dtype, storage)
        first, before = self.lives[storage]
        self.lives[storage] = (first, max(before, last))

    def collect_values(self) -> None:
        """Collect the input and every node's output."""
        self.claim(value_key(INPUT), batch_shape(self.graph.input_shape, self.n), self.dtype, -1, self.last_use(INPUT))
        for moment, node in enumerate(self.graph.nodes):
            layer, last, sources = node.layer, self.last_use(node.name), [value_key(name) for name in node.inputs]
            overwrites = layer.in_place and node.input_shapes[0] == node.shape and self.is_last_read(moment, sources)
            if moment in self.spans:  # another worker may still read rows of a value from an earlier stage
                overwrites &= self.lives[self.arrays[sources[0]][2]][0] >= self.spans[moment][0]
            if "x" in layer.passes_on or (overwrites and self.reuse):
                self.overlay(value_key(node.name), sources[0], last)
            else:
                self.claim(value_key(node.name), batch_shape(node.shape, self.n), self.dtype, moment, max(last, moment))

    def last_use(self, name: str) -> int:
        """The last moment that reads a value."""
        moments = [self.loss_moment] if name == self.graph.output.name else [-1]
        if name == INPUT and self.loss is not None and self.loss.reads_input:
            moments.append(self.loss_moment)
        for reader in self.graph.consumers(name):
            moments.append(self.forward[reader.name])
            if "x" in reader.layer.retains and reader.name in self.partition.differentiated:
                moments.append(self.backward_end[reader.name])
        if name in self.partition.differentiated and "y" in self.graph.node(name).layer.retains:
            moments.append(self.backward_end[name])
        return max(moments)

    def is_last_read(self, moment: int, read: Sequence[Key]) -> bool:
        """Whether the first of these arrays is read for the last time, and shares no storage with the others."""
        storage, *others = (self.arrays[key][2] for key in read)
        return self.lives[storage][1] == moment and storage not in others

    def collect_buffers(self) -> None:
        """Collect the scratch arrays of layers, of their parts and of the loss."""
        for node in self.graph.nodes:
            forward, backward, end = self.forward[node.name], self.backward[node.name], self.backward_end[node.name]
            lives = {
                "forward": (forward, forward),
                "kept": (forward, end),
                "shared": (backward, end),
                "input": (backward, backward),
                "params": (backward, end),
            }
            parts = self.stages[node.name].parts[node.name] if node.name in self.stages else ()
            for name, buffer in node.layer.scratch(*node.input_shapes, n=self.n, mode=self.mode).items():
                if buffer.lifetime != "prepare" and not (parts and buffer.lifetime == "forward"):
                    self.claim_buffer(buffer_key(node.name, name), buffer, lives[buffer.lifetime])
            for index, part in enumerate(parts):
                shapes = part.shapes(*node.input_shapes)
                for name, buffer in part.layer.scratch(*shapes, n=self.n, mode=self.mode).items():
                    if buffer.lifetime == "forward":
                        self.claim_buffer(part_key(node.name, index, name), buffer, lives["forward"])
        if self.loss is not None:
            for name, buffer in self.loss.scratch(self.graph.output.shape, self.n).items():
                self.claim_buffer(buffer_key(LOSS, name), buffer, (self.loss_moment, self.loss_moment))

    def claim_buffer(self, key: Key, buffer: Buffer, life: tuple[int, int]) -> None:
        """Claim a scratch array that lives as long as `life` says."""
        self.claim(key, buffer.shape, np.dtype(buffer.dtype or self.dtype), *life)

    def collect_gradients(self) -> None:
        """Collect the gradients of values, one for each reader of a value, and those of tied parameters."""
        output = self.graph.output
        if output.name in self.partition.differentiated:
            self.collect_gradient(output.name, LOSS, self.loss_moment)
        for node in reversed(self.graph.nodes):
            if node.name not in self.partition.differentiated:
                continue
            for position, source in enumerate(node.inputs):
                if source in self.partition.differentiated:
                    self.collect_gradient(source, node.name, self.backward[node.name], position)
            adder = self.partition.tied.get(node.name)
            if adder not in (None, node.name):
                for name, parameter in node.params.items():
                    life = self.backward[node.name], self.backward[adder]
                    self.claim(tied_key(node.name, name), parameter.shape, self.dtype, *life)

    def collect_gradient(self, value: str, reader: str, moment: int, position: int = 0) -> None:
        """Collect the gradient that one reader writes for a value: in the place of that reader's dy or x, or apart."""
        key, last = gradient_key(value, reader, position), self.backward_end[value]
        shape = batch_shape(self.graph.node(value).shape, self.n)
        if reader != LOSS:
            layer, above = self.graph.node(reader).layer, self.graph.reads(reader)
            above_grads = [gradient_key(reader, node.name, i) for node, i in above] or [gradient_key(reader, LOSS)]
            read = [value_key(value)] if layer.gradient_place == "x" else above_grads
            overwrites = layer.gradient_place and self.arrays[read[0]][0] == shape and self.is_last_read(moment, read)
            if "dy" in layer.passes_on or (overwrites and self.reuse):
                self.overlay(key, read[0], last)
                return
        self.claim(key, shape, self.dtype, moment, last)
