"""All arrays of a plan: one arena for the arrays of the layers, and separate arrays for images, labels and results."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.elementwise import accumulate, argmax_channel, copy
from cnnspec.kernels.step import Array, Step
from cnnspec.layers.base import Mode, Operands, from_public, to_public
from cnnspec.optim import Loss
from cnnspec.plan.memory.arena import ArenaPool
from cnnspec.plan.memory.liveness import LOSS, Key, batch_key, buffer_key, gradient_key, layouts, tied_key, value_key
from cnnspec.plan.schedule.partition import Part, Partition
from cnnspec.plan.state import Stream, Training, Weights
from cnnspec.target import CLASS, Target
from cnnspec.workers import shared


@dataclass(frozen=True, slots=True)
class Entry:
    """How a batch enters: the type of images in memory, x = image * scale + shift per channel, the kind of labels."""

    dtype: str = "float32"
    scale: Sequence[float] | None = None
    shift: Sequence[float] | None = None
    target: Target = CLASS


class Arrays:
    """The arrays of a graph at one batch size; the methods tell which of them a layer reads and writes in a shard."""

    def __init__(
        self,
        graph: Graph,
        partition: Partition,
        mode: Mode,
        weights: Weights,
        *,
        entry: Entry,
        loss: Loss | None,
        training: Training | None,
        seed: int,
        pool: ArenaPool,
        reuse: bool,
    ) -> None:
        self.graph, self.partition, self.mode, self.weights = graph, partition, mode, weights
        self.entry, self.loss, self.training, self.seed = entry, loss, training, seed
        dtype, count = weights.values.dtype, sum(partition.shards)
        self.batch = partition.batch
        common, self.layouts = layouts(graph, partition, mode, str(dtype), loss, reuse=reuse)
        size = common.size + sum(layout.size for layout in self.layouts)
        self.block = pool.take(size)
        self.arena = self.block.data[:size]
        self.common = common.bind(self.arena[: common.size])
        self.shards: list[dict[Key, Array]] = []
        start = common.size
        for layout in self.layouts:
            self.shards.append(layout.bind(self.arena[start : start + layout.size]))
            start += layout.size
        bounds = np.cumsum([0, *partition.shards]).tolist()
        self.images_of = [slice(*ends) for ends in pairwise(bounds)]
        self.images: Array = shared((count, *graph.input_shape), entry.dtype)
        target = entry.target if loss is None else loss.learned(entry.target)
        output = graph.output.shape
        shape = target.label_shape(output) if loss is None else loss.label_shape(target, output)
        self.labels_last: Array = shared((*shape, count), target.dtype)
        self.losses: Array = shared((partition.batch,), dtype)  # of the images of all ranks
        self.term_losses: dict[str, Array] = {name: shared((count,), dtype) for name in loss.names} if loss else {}
        self.predictions_last: Array | None = None
        if target.kind == "mask" or (len(output) == 1 and target.kind not in ("values", "input", "several")):
            several = target.kind == "classes"
            decision_shape = shape if several or target.kind == "mask" else ()
            self.predictions_last = shared((*decision_shape, count), bool if several else np.int64)
        self.is_multi_label = target.kind == "classes"

    @property
    def labels(self) -> Array:
        """The labels, images first, as a view."""
        return np.moveaxis(self.labels_last, -1, 0)

    @property
    def predictions(self) -> Array | None:
        """The class of each image or pixel, or whether each label applies, images first; None for other targets."""
        return None if self.predictions_last is None else np.moveaxis(self.predictions_last, -1, 0)

    @property
    def outputs(self) -> list[Array]:
        """The network's output in each shard, images first, as views."""
        return [to_public(self.output(shard)) for shard in range(len(self.shards))]

    def output(self, shard: int) -> Array:
        """The network's output in one shard, images last."""
        return self.shards[shard][value_key(self.graph.output.name)]

    def operands(self, node: Node, shard: int) -> Operands:
        """The arrays of a node in one shard."""
        arrays = self.shards[shard]
        available = ChainMap(arrays, self.common)
        buffers = {  # a node that is computed by parts has some buffers for each part instead
            name: available[key]
            for name in node.layer.scratch(*node.input_shapes, n=self.partition.shards[shard], mode=self.mode)
            if (key := buffer_key(node.name, name)) in available
        }
        readers = [(reader.name, i) for reader, i in self.graph.reads(node.name)] or [(LOSS, 0)]
        backward = node.name in self.partition.differentiated
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
            shard=self.partition.first_shard + shard,
            batch=self.batch,
            random=self.stream(node, shard),
        )

    def stream(self, node: Node, shard: int) -> Stream:
        """The random numbers of a node in one shard."""
        clock = self.training.clock if self.training else np.array(0)
        return Stream(self.seed, node.name, self.partition.first_shard + shard, clock)

    def part_operands(self, node: Node, part: Part, index: int, whole: Operands) -> Operands:
        """The arrays of one part: all prepared arrays, its rows of the kept arrays, and scratch of its own."""
        n, seen = self.partition.shards[0], part.shapes(*node.input_shapes)
        buffers: dict[str, Array] = {}
        for name, buffer in part.layer.scratch(*seen, n=n, mode=self.mode).items():
            if buffer.lifetime == "forward":
                buffers[name] = self.shards[0][("buffer", node.name, f"{index}/{name}")]
            elif buffer.lifetime in ("prepare", "kept"):
                array = whole.buffers[name]
                buffers[name] = array if buffer.lifetime == "prepare" else array[part.rows]
        return part.operands(whole, buffers)

    def gradients(self, node: Node, shard: int) -> dict[str, Array]:
        """The arrays for a node's parameter gradients of one shard; batch gradients are left out."""
        if self.training is None:
            return {}
        if self.partition.tied.get(node.name, node.name) != node.name:
            return {name: self.shards[shard][tied_key(node.name, name)] for name in node.params}
        views = self.weights.views(self.training.gradients[shard], node)
        return {name: a for name, a in views.items() if name not in self.partition.batch_gradients.get(node.name, ())}

    def tied_sum_steps(self, node: Node, shard: int) -> Iterator[Step]:
        """Steps that add the gradients of tied nodes to those of the node that sums them, in a fixed order."""
        others = [name for name, last in self.partition.tied.items() if last == node.name != name]
        for name, total in self.gradients(node, shard).items():
            yield from (accumulate(total, self.shards[shard][tied_key(other, name)]) for other in others)

    def collection_steps(self, shard: int, o: Operands, x: Array, dy: Array) -> list[Step]:
        """Steps that copy a node's x and dy in one shard into the arrays `x` and `dy` of all shards of the rank."""
        images = self.images_of[shard]
        return [copy(source, target[:, images]) for source, target in ((o.x, x), (o.dy, dy))]

    def batch_operands(self, node: Node) -> tuple[Array, Array]:
        """x and dy of a node for the whole batch."""
        return self.common[batch_key(node.name, "x")], self.common[batch_key(node.name, "dy")]

    def entry_steps(self, shard: int) -> list[Step]:
        """Steps that bring images (n, c, h, w) into the plan's type and layout (h, c, w, n), scaled and shifted."""
        x = self.shards[shard][value_key(INPUT)]
        images = from_public(self.images[self.images_of[shard]])
        scale, shift = (
            None if values is None else np.asarray(values, x.dtype).reshape(1, -1, 1, 1)
            for values in (self.entry.scale, self.entry.shift)
        )
        steps: list[Step] = [copy(images, x) if images.dtype == x.dtype else partial(np.copyto, x, images, "unsafe")]
        if scale is not None:
            steps.append(partial(np.multiply, x, scale, x))
        if shift is not None and shift.any():
            steps.append(accumulate(x, shift))
        return steps

    def score_steps(self, shard: int) -> list[Step]:
        """Steps that write the prediction and the loss of each image and, in training, the gradient of the loss."""
        steps: list[Step] = []
        output, images = self.output(shard), self.images_of[shard]
        if self.predictions_last is not None:
            answer = output if self.loss is None else self.loss.answer(output)
            steps.append(self._decision_step(answer, self.predictions_last[..., images]))
        if self.loss is not None:
            arrays, n = self.shards[shard], self.partition.shards[shard]
            scratch = self.loss.scratch(self.graph.output.shape, n)
            step = self.loss.bind(
                output,
                self._target(self.loss, shard),
                arrays.get(gradient_key(self.graph.output.name, LOSS)),
                self.losses[self.partition.images][images],
                {name: arrays[buffer_key(LOSS, name)] for name in scratch}
                | {name: losses[images] for name, losses in self.term_losses.items()},
                self.batch,
            )
            steps.append(step)
        return steps

    def _target(self, loss: Loss, shard: int) -> Array:
        if loss.reads_input:
            return self.shards[shard][value_key(INPUT)]
        return self.labels_last[..., self.images_of[shard]]

    def _decision_step(self, output: Array, decided: Array) -> Step:
        """The step that decides: the likeliest class or, for one output or several labels, those above a threshold."""
        threshold = 0.5 if self.loss is None else self.loss.threshold
        axis = 1 if output.ndim == 4 else 0
        if self.is_multi_label:
            return partial(np.greater, output, threshold, decided)
        if output.shape[axis] == 1:
            return partial(np.greater, output.squeeze(axis), threshold, decided)
        return argmax_channel(output, decided) if axis else partial(output.argmax, 0, decided)
