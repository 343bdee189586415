"""What lowering one shard and lowering several have in common: arrays, and programs that are bound to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.elementwise import accumulate, copy
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Mode, Operands, Program, Reduce, from_public, to_public
from cnnspec.optim import Loss
from cnnspec.plan.gate import Gate
from cnnspec.plan.layout import (
    LOSS,
    Key,
    Layout,
    buffer_key,
    differentiated,
    echo_key,
    gradient_key,
    has_gradients,
    lay_out,
    lay_out_shared,
    value_key,
)
from cnnspec.plan.memory import Pool
from cnnspec.plan.plan import Plan
from cnnspec.plan.random import Stream
from cnnspec.plan.stages import Stage, stages
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights
from cnnspec.workers import Phase, WorkerPool, WorkQueue, shared

SHARD = 32  # images: smaller shards cost more calls than they gain in cache hits


@dataclass(frozen=True, slots=True)
class Entry:
    """How a batch enters: the type that images have in memory, and x = image * scale + shift per channel.

    Labels enter as numbers of classes, or as shares of every class.
    """

    dtype: str = "float32"
    scale: Sequence[float] | None = None
    shift: Sequence[float] | None = None
    shares: bool = False


def shards_of(batch: int) -> tuple[int, ...]:
    """How a batch is cut: by its size alone, never by the machine, into parts of about 32 and at least 16 images."""
    count = 1 if batch < 32 else max(2, batch // SHARD)
    return tuple(batch * (i + 1) // count - batch * i // count for i in range(count))


def overlapped(graph: Graph, batch: int) -> bool:
    """Whether two members work on one shard: on the rows of a layer, and on gradients beside the way back.

    Layers that share parameters add up their gradients in turn, so there all runs in turn.
    """
    return len(shards_of(batch)) == 1 and not graph.sharing


def stages_of(graph: Graph, batch: int, mode: Mode) -> list[Stage]:
    """How two members share a batch on the way there; none where they do not."""
    return stages(graph, batch, mode) if overlapped(graph, batch) else []


def layouts(
    graph: Graph, batch: int, mode: Mode, dtype: str, loss: Loss | None, cut: Sequence[Stage]
) -> tuple[Layout, list[Layout]]:
    """Where what all shards share lies, and the arrays of each; `cut` are the batch's stages."""
    sizes = shards_of(batch)
    by_size = {n: lay_out(graph, n, mode, dtype, loss, overlapped=bool(cut), stages=cut) for n in set(sizes)}
    return lay_out_shared(graph, sizes, mode, dtype), [by_size[n] for n in sizes]


def followed(queue: WorkQueue, steps: Sequence[Step], then: Step | None) -> list[int]:
    """Add tasks for a queue, in any order, after the last of which comes `then`."""
    return leaving(queue, [(step, ()) for step in steps], then)


def leaving(queue: WorkQueue, tasks: Sequence[tuple[Step, Sequence[Step]]], then: Step | None) -> list[int]:
    """Add tasks each of which puts more of them into the queue, after the last of which comes `then`."""
    if not tasks:
        return [] if then is None else [queue.add(then)]
    end = [] if then is None else [queue.countdown(sum(1 + len(left) for _, left in tasks), then)]
    numbers = []
    for step, left in tasks:
        put = [partial(queue.last, *(queue.add(in_turn([one, *end])) for one in left))] if left else []
        numbers.append(queue.add(in_turn([step, *put, *end])))
    return numbers


class Lowering(ABC):
    """A graph, a batch size and a mode, and the arrays of their plan."""

    def __init__(
        self,
        graph: Graph,
        batch: int,
        mode: Mode,
        weights: Weights,
        team: WorkerPool,
        entry: Entry,
        loss: Loss | None,
        training: Training | None,
        seed: int,
        pool: Pool,
    ) -> None:
        self.graph, self.batch, self.mode, self.weights, self.team = graph, batch, mode, weights, team
        self.entry, self.loss, self.training, self.seed = entry, loss, training, seed
        dtype = weights.values.dtype
        self.wanted = differentiated(graph) if mode == "train" else frozenset[str]()
        self.stages = stages_of(graph, batch, mode)
        common, self.layouts = layouts(graph, batch, mode, str(dtype), loss, self.stages)
        size = common.size + sum(layout.size for layout in self.layouts)
        self.block = pool.take(size)
        self.arena = self.block.data[:size]
        self.common = common.bind(self.arena[: common.size])
        self.arrays: list[dict[Key, Array]] = []
        start = common.size
        for layout in self.layouts:
            self.arrays.append(layout.bind(self.arena[start : start + layout.size]))
            start += layout.size
        self.bounds = np.cumsum([0, *(layout.n for layout in self.layouts)]).tolist()
        self.images: Array = shared((batch, *graph.input_shape), entry.dtype)
        if self.enters_as_it_is:
            self.arrays[0][value_key(INPUT)] = from_public(self.images)
        classifies = len(graph.output.shape) == 1 and not (loss and loss.reads_input)
        self.labels: Array = shared((batch,), np.int64)
        self.shares: Array | None = shared((*graph.output.shape, batch), np.float32) if self.entry.shares else None
        self.losses: Array = shared((batch,), dtype)
        self.gate = Gate(self.losses)
        self.predictions: Array | None = shared((batch,), np.int64) if classifies else None

    def plan(self) -> Plan:
        """Bind all programs."""
        operands = [
            [self.operands(node, position, shard) for shard in range(len(self.layouts))]
            for position, node in enumerate(self.graph.nodes)
        ]
        programs = {
            node.name: steps_of(node.layer.prepare(of_shards[0]))
            for node, of_shards in zip(self.graph.nodes, operands, strict=True)
        }
        prepare = {name: in_turn(steps) for name, steps in programs.items() if steps}  # one task a layer
        phases, eager = self.programs(operands, prepare)
        judged = [self.judge(shard) for shard in range(len(self.layouts))] if self.mode == "infer" else []
        return Plan(
            batch=self.batch,
            mode=self.mode,
            arena=self.arena,
            block=self.block,
            images=self.images,
            labels=self.labels,
            shares=self.shares,
            losses=self.losses,
            predictions=self.predictions,
            outputs=[to_public(arrays[value_key(self.graph.output.name)]) for arrays in self.arrays],
            prepare=[list(prepare.values())] if prepare else [],
            phases=phases,
            judge=[[in_turn(steps) for steps in judged]] if any(judged) else [],
            eager=eager,
            gate=self.gate,
            gather=self.training.gather(len(self.layouts)) if self.training and self.training.accumulate > 1 else [],
            update=self.training.phases(len(self.layouts)) if self.training else [],
            weights=self.weights,
            team=self.team,
            training=self.training,
        )

    @abstractmethod
    def programs(
        self, operands: Sequence[Sequence[Operands]], prepare: Mapping[str, Step]
    ) -> tuple[list[Phase], list[Phase]]:
        """The phases of a pass, and those of a pass that ends with the update and `prepare` for the next one, if any.

        `operands` are those of each node in each shard.
        """

    def operands(self, node: Node, position: int, shard: int) -> Operands:
        """The arrays of a node in a shard."""
        arrays = self.arrays[shard]
        own = self.common | arrays
        buffers = {  # a node that is cut has some for each part instead
            name: own[key]
            for name in node.layer.scratch(*node.input_shapes, n=self.layouts[shard].n, mode=self.mode)
            if (key := buffer_key(node.name, name)) in own
        }
        readers = [(reader.name, i) for reader, i in self.graph.reads(node.name)] or [(LOSS, 0)]
        backward = node.name in self.wanted
        clock = self.training.clock if self.training else np.array(0)
        return Operands(
            inputs=tuple(arrays[value_key(name)] for name in node.inputs),
            output=arrays[value_key(node.name)],
            input_grads=tuple(
                arrays.get(gradient_key(name, node.name, i)) if backward else None for i, name in enumerate(node.inputs)
            ),
            output_grads=tuple(arrays[gradient_key(node.name, *reader)] for reader in readers) if backward else (),
            params=self.weights.views(self.weights.values, node),
            grads=self.gradients(node, shard),
            state=self.weights.node_state(node),
            buffers=buffers,
            mode=self.mode,
            shard=shard,
            batch=self.batch,
            random=Stream(self.seed, position, shard, clock),
        )

    def gradients(self, node: Node, shard: int) -> dict[str, Array]:
        """Where a node's parameter gradients go: beside those of the node that it shares with, if any."""
        if self.training is None:
            return {}
        if node.share and node.name in self.wanted:
            return {name: self.arrays[shard][echo_key(node.name, name)] for name in node.params}
        return self.weights.views(self.training.gradients[shard], node)

    def learning(self) -> list[str]:
        """The nodes whose parameters get gradients."""
        return [node.name for node in self.graph.nodes if node.name in self.wanted and has_gradients(node)]

    @cached_property
    def enters_as_it_is(self) -> bool:
        """Whether images lie as the plan wants them, as a single one of one channel does, and nobody writes there."""
        readers = [node.layer for node in self.graph.consumers(INPUT)]
        read_only = not any(layer.in_place or "x" in layer.passes_on for layer in readers)
        plain = self.images.dtype == self.weights.values.dtype and self.entry.scale is None is self.entry.shift
        return plain and read_only and len(self.layouts) == 1 and from_public(self.images).flags.c_contiguous

    def enter(self, shard: int) -> list[Step]:
        """Images become the plan's type and layout: the one place where n, c, h, w turns into (h, c, w, n)."""
        if self.enters_as_it_is:
            return []
        start, stop = self.bounds[shard : shard + 2]
        x = self.arrays[shard][value_key(INPUT)]
        images = from_public(self.images[start:stop])
        scale, shift = (
            None if values is None else np.asarray(values, x.dtype).reshape(1, -1, 1, 1)
            for values in (self.entry.scale, self.entry.shift)
        )
        steps: list[Step] = [copy(images, x) if images.dtype == x.dtype else partial(np.copyto, x, images, "unsafe")]
        if scale is not None:
            steps.append(partial(np.multiply, x, scale, x))
        if shift is not None and shift.any():
            steps.append(accumulate(x, shift))
        return [in_turn(steps)]

    def judge(self, shard: int) -> list[Step]:
        """What labelled images are for: the likeliest class of each, and its loss."""
        found = [] if self.predictions is None else [self.predict(shard, self.predictions)]
        return found if self.loss is None else [*found, self.bind_loss(self.loss, shard)]

    def predict(self, shard: int, predictions: Array) -> Step:
        """The likeliest class of each image."""
        start, stop = self.bounds[shard : shard + 2]
        return partial(self.arrays[shard][value_key(self.graph.output.name)].argmax, 0, predictions[start:stop])

    def target(self, loss: Loss, shard: int, images: slice) -> Array:
        """What the outputs are compared with."""
        if loss.reads_input:
            return self.arrays[shard][value_key(INPUT)]
        return self.labels[images] if self.shares is None else self.shares[:, images]

    def bind_loss(self, loss: Loss, shard: int) -> Step:
        """The loss of each image, and in training its gradient."""
        start, stop = self.bounds[shard : shard + 2]
        arrays, output = self.arrays[shard], self.graph.output
        return loss.bind(
            arrays[value_key(output.name)],
            self.target(loss, shard, slice(start, stop)),
            arrays.get(gradient_key(output.name, LOSS)),
            self.losses[start:stop],
            {name: arrays[buffer_key(LOSS, name)] for name in loss.scratch(output.shape, self.layouts[shard].n)},
            self.batch,
        )


def steps_of(program: Program) -> list[Step]:
    """The program of a shard that is alone: its sums are the sums."""
    return [item.then if isinstance(item, Reduce) else item for item in program]
