"""The tasks of a plan's programs: which layer computes what, in which shard or rows, and what each task waits for.

One builder makes all of them. Whether a batch is one shard or several, and whether a pass ends with an update, are its
inputs: a shard is a lane; an all-reduce is a task that all lanes wait for; rows are lanes between two barriers; and
whatever nobody on the way to the first layer waits for, such as an update, goes into the work queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np

from cnnspec.graph import INPUT, Node
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Backward, Layer, Operands, Program, Reduce
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.memory.liveness import value_key
from cnnspec.plan.schedule.partition import Stage
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.plan.state import Chunk, Training, tree_sum
from cnnspec.shapes import Shape
from cnnspec.workers import shared

Gradients = Literal["sum", "accumulate", "update"]  # what a training pass ends with

FEWEST_ROWS, MOST_ROWS = (
    32,
    128,
)  # of a batch gradient's task: fewer multiply slowly, more leave a worker idle at the end
TASKS = 4  # that a batch gradient is divided into at least, where rows are enough
ALIGNED_ROWS = 16  # so that whatever is updated begins at a cache line


class LossCheck:
    """Whether all losses of a step are numbers: where one is not, no task changes the weights."""

    def __init__(self, losses: Array) -> None:
        self._losses = losses
        self._finite = shared((1,), "bool").data  # its elements are plain numbers, which are read faster

    def find(self) -> None:
        """Look at the losses."""
        self._finite[0] = bool(np.isfinite(self._losses).all())

    @property
    def finite(self) -> bool:
        """What was found."""
        return bool(self._finite[0])

    def guarded(self, steps: Sequence[Step]) -> list[Step]:
        """Steps that do nothing where a loss is no number."""
        return [partial(_if, self._finite, in_turn(steps))]


def _if(finite: memoryview, step: Step) -> None:
    if finite[0]:
        step()


class Builder:
    """Builds the task graph of one program after another, each on the same arrays."""

    def __init__(self, arrays: Arrays, check: LossCheck, *, forks: bool) -> None:
        self.arrays, self.graph, self.partition = arrays, arrays.graph, arrays.partition
        self.check = check
        self.beside = 1 if forks else 0  # the lane of the second half of rows; threads would only wait for each other
        self.operands = {
            node.name: [arrays.operands(node, shard) for shard in range(len(self.partition.shards))]
            for node in self.graph.nodes
        }
        self.preparing = {
            node.name: steps
            for node in self.graph.nodes
            if (steps := _steps(node.layer.prepare(self.operands[node.name][0])))
        }
        self._begin()

    def _begin(self) -> None:
        self.tasks = TaskGraph()
        self.awaited: tuple[Task, ...] = ()  # by whatever comes next in a lane: the tasks before a barrier
        self.last: dict[int, Task] = {}  # of each lane
        self.writers: list[tuple[int, int, Task]] = []  # of the gradient, by elements of the flat array
        self.readers: list[tuple[int, int, Task]] = []  # of the weights, in the backward pass

    # Programs.

    def prepare(self) -> TaskGraph:
        """What depends on parameters alone, for all nodes."""
        self._begin()
        for lane, (name, steps) in enumerate(self.preparing.items()):
            self._prepare_task(name, steps, lane=lane)
        return self.tasks

    def infer(self) -> TaskGraph:
        """A forward pass."""
        self._begin()
        self._forward()
        return self.tasks

    def score(self) -> TaskGraph:
        """Predictions and losses of labelled images, after a forward pass."""
        self._begin()
        self._score()
        return self.tasks

    def train(self, training: Training, gradients: Gradients) -> TaskGraph:
        """A forward and a backward pass, and what follows from the gradients."""
        self._begin()
        self._forward()
        scored = self._score()
        lane = 0 if len(scored) == 1 else None  # of several shards, the last that has its losses looks at all
        check = self._add("losses", "check", [self.check.find], lane=lane, after=scored, inline=lane is None)
        for node in reversed(self.graph.nodes):
            if node.name in self.partition.wanted:
                self._backward(node, training)
        self._follow_up(training, gradients, check)
        return self.tasks

    # The forward pass.

    def _forward(self) -> None:
        entered = []
        for shard in range(len(self.partition.shards)):
            x = self.arrays.shards[shard][value_key(INPUT)]
            entered.append(self._add("input", "enter", self.arrays.entering(shard), lane=shard, writes=[x]))
        if self.partition.stages:
            self.awaited = tuple(entered)
            for stage in self.partition.stages:
                self._stage(stage)
        else:
            for node in self.graph.nodes:
                self._whole(node)

    def _stage(self, stage: Stage) -> None:
        """Nodes between two barriers: by rows in two lanes, or all in the first one."""
        start = len(self.tasks.tasks)
        for node in stage.nodes:
            if stage.parts:
                self._by_rows(node, stage)
            else:
                self._whole(node)
        self.awaited = tuple(self.tasks.tasks[start:])

    def _whole(self, node: Node) -> None:
        operands = self.operands[node.name]
        arrays = [_forward_arrays(node.layer, o, *node.input_shapes) for o in operands]
        self._run(node, "forward", [node.layer.forward(o) for o in operands], arrays)

    def _by_rows(self, node: Node, stage: Stage) -> None:
        whole = self.operands[node.name][0]
        for index, part in enumerate(stage.parts[node.name]):
            own = self.arrays.part_operands(node, part, index, whole)
            reads, writes = _forward_arrays(part.layer, own, *part.shapes(*node.input_shapes))
            self._add(
                node.name,
                "forward",
                _steps(part.layer.forward(own)),
                lane=self.beside * index,
                after=self.awaited,
                barrier=bool(self.beside),
                reads=reads,
                writes=writes,
                portion=(part.rows.stop - part.rows.start) / len(whole.output),
            )

    def _score(self) -> list[Task]:
        found = []
        for shard in range(len(self.partition.shards)):
            steps = self.arrays.scoring(shard)
            images = self.arrays.images_of[shard]
            writes = [self.arrays.losses[images]]
            found.append(self._add("loss", "loss", steps, lane=shard, after=self.awaited, writes=writes))
        return found

    # The backward pass.

    def _backward(self, node: Node, training: Training) -> None:
        operands = self.operands[node.name]
        bound = [node.layer.backward(o) for o in operands]
        arrays = [_BackwardArrays(node, o) for o in operands]
        self._run(node, "shared", [b.shared for b in bound], [a.shared for a in arrays], counts=False)
        if not (node.params and node.trainable):
            self._input(node, bound, arrays)
        elif node.name in self.partition.deferred:
            early = training.has_chunk(node.name)
            if not early:
                self._input(node, bound, arrays)
            reads, writes = arrays[0].params
            after = [self.last[0]] if 0 in self.last else []
            task = self._add(
                node.name,
                "params",
                _steps(bound[0].params),
                after=after,
                urgent=True,
                reads=reads,
                writes=writes,
                portion=1,
            )
            self._writes(node, [task], tuple(node.params))
            if early:
                self._input(node, bound, arrays)
        else:
            self._input(node, bound, arrays)
            self._gradients_in_lanes(node, bound, arrays)

    def _input(self, node: Node, bound: Sequence[Backward], arrays: Sequence[_BackwardArrays]) -> None:
        tasks = self._run(node, "input", [b.input for b in bound], [a.input for a in arrays])
        ranges = self.arrays.weights.ranges(node).values()
        self.readers += [(start, stop, task) for start, stop in ranges for task in tasks]

    def _gradients_in_lanes(self, node: Node, bound: Sequence[Backward], arrays: Sequence[_BackwardArrays]) -> None:
        """The parameters' gradients of each shard, behind the input's."""
        apart = self.partition.batch_gradients.get(node.name, ())
        tasks = self._run(node, "params", [b.params for b in bound], [a.params for a in arrays], counts=not apart)
        tied = self.partition.tied.get(node.name)
        if tied == node.name:
            sums = [list(self.arrays.tied_sums(node, shard)) for shard in range(len(bound))]
            written = [((), list(o.grads.values())) for o in self.operands[node.name]]
            tasks = self._run(node, "params", sums, written, counts=False)
        if tied in (None, node.name):
            self._writes(node, tasks, tuple(name for name in node.params if name not in apart))
            if apart:
                self._batch_gradient(node, apart)

    def _batch_gradient(self, node: Node, names: Sequence[str]) -> None:
        """Gradients that are products over all images: by rows of units, for all shards at once.

        A shard's own product would write as many elements with less arithmetic for each, and all shards' results would
        then have to be added.
        """
        operands = self.operands[node.name]
        x, dy = self.arrays.collected(node)
        collected = [
            self._add(
                node.name,
                "params",
                self.arrays.collect(node, shard, o),
                lane=shard,
                reads=[o.x, o.dy],
                writes=[x[:, self.arrays.images_of[shard]], dy[:, self.arrays.images_of[shard]]],
            )
            for shard, o in enumerate(operands)
        ]
        assert self.arrays.training is not None
        flat = self.arrays.weights.views(self.arrays.training.gradients[0], node)
        ranges = self.arrays.weights.ranges(node)
        for rows in row_blocks(len(dy)):
            layer = node.layer.but(units=rows.stop - rows.start)
            grads = {name: flat[name][rows] for name in names}
            scratch = layer.scratch(*node.input_shapes, n=len(dy[0]), mode="train")
            o = Operands(
                inputs=(x,),
                output=dy[rows],  # which no backward pass of such a layer reads
                input_grads=(None,),
                output_grads=(dy[rows],),
                params={name: array[rows] for name, array in operands[0].params.items()},
                grads=grads,
                buffers={name: np.empty(b.shape, b.dtype or x.dtype) for name, b in scratch.items()},
                batch=self.arrays.batch,
            )
            bound = layer.backward(o)
            task = self._add(
                node.name,
                "params",
                _steps([*bound.shared, *bound.params]),
                after=collected,
                reads=[x, dy[rows]],
                writes=list(grads.values()),
                portion=(rows.stop - rows.start) / len(dy),
            )
            for name in names:
                start, width = ranges[name][0], flat[name][0].size
                self.writers.append((start + rows.start * width, start + rows.stop * width, task))

    # What follows from the gradients.

    def _follow_up(self, training: Training, gradients: Gradients, check: Task) -> None:
        made_at_once = [
            self.arrays.weights.ranges(self.graph.node(name))[parameter]
            for name, parameters in self.partition.batch_gradients.items()
            for parameter in parameters
        ]
        boundaries = {end for start, stop, _ in self.writers for end in (start, stop)}
        apart = [name for name in self.preparing if training.has_chunk(name)]  # prepared without waiting for others
        chunks = [chunk for chunk in training.chunks(boundaries, apart) if self._touching(self.writers, chunk)]
        clips = gradients == "update" and training.clip.norm is not None and bool(chunks)
        squares = shared((len(chunks),), np.float64)
        factor = shared((), training.weights.values.dtype, 1)
        summed: list[tuple[Chunk, Task]] = []
        for index, chunk in enumerate(chunks):
            at_once = any(start <= chunk.start < stop for start, stop in made_at_once)
            steps = (
                []
                if at_once or len(self.partition.shards) == 1
                else [training.summing(chunk, len(self.partition.shards))]
            )
            if gradients == "accumulate":
                steps.append(training.accumulating(chunk))
            elif gradients == "update":
                steps += [training.averaging(chunk)] if training.accumulate > 1 else []
                square = squares[index : index + 1]
                steps.append(training.squaring(chunk, square) if clips else training.updating(chunk))
            after = [*self._touching(self.writers, chunk), *self._touching(self.readers, chunk), check]
            guarded = steps if gradients == "sum" else self.check.guarded(steps)
            arrays = self._chunk_arrays(training, chunk)
            if guarded:
                summed.append((chunk, self._add("update", "update", guarded, after=after, writes=arrays)))
        if clips:
            measured = self._add(
                "norm",
                "update",
                self.check.guarded([training.measuring(squares, factor)]),
                after=[t for _, t in summed],
            )
            summed = [
                (
                    chunk,
                    self._add(
                        "update",
                        "update",
                        self.check.guarded([training.scaling(chunk, factor), training.updating(chunk)]),
                        after=[measured],
                        writes=self._chunk_arrays(training, chunk),
                    ),
                )
                for chunk, _ in summed
            ]
        if gradients == "update":
            updated = [(chunk.start, chunk.stop, task) for chunk, task in summed]
            for name, steps in self.preparing.items():
                ranges = self.arrays.weights.ranges(self.graph.node(name)).values()
                after = [task for start, stop in ranges for task in _overlapping(updated, start, stop)]
                if after:
                    self._prepare_task(name, self.check.guarded(steps), after=after)

    def _chunk_arrays(self, training: Training, chunk: Chunk) -> list[Array]:
        flat = [training.weights.values, *training.slots.values(), *training.gradients[: len(self.partition.shards)]]
        return [array[chunk.elements] for array in flat]

    @staticmethod
    def _touching(ranges: Sequence[tuple[int, int, Task]], chunk: Chunk) -> list[Task]:
        return list(_overlapping(ranges, chunk.start, chunk.stop))

    # Tasks.

    def _prepare_task(
        self, name: str, steps: Sequence[Step], *, lane: int | None = None, after: Sequence[Task] = ()
    ) -> None:
        self._add(
            name,
            "prepare",
            steps,
            lane=lane,
            after=after,
            reads=list(self.operands[name][0].params.values()),
            writes=self._prepared(self.graph.node(name)),
        )

    def _prepared(self, node: Node) -> list[Array]:
        """The arrays that all shards share: what depends on parameters, or on sums over the batch, alone."""
        buffers = self.operands[node.name][0].buffers
        scratch = node.layer.scratch(*node.input_shapes, n=self.partition.shards[0], mode=self.arrays.mode)
        return [buffers[of] for of, buffer in scratch.items() if buffer.lifetime == "prepare"]

    def _run(
        self,
        node: Node,
        kind: str,
        programs: Sequence[Program],
        arrays: Sequence[tuple[Sequence[Array], Sequence[Array]]],
        *,
        counts: bool = True,
    ) -> list[Task]:
        """A program of a node in every shard, cut where all shards add something up; the last task of each.

        The first task of each shard has the shard's portion of the node's work, if the program `counts`.
        """
        made: list[Task] = []
        for parts in zip(*(_between_reduces(program) for program in programs), strict=True):
            if not any(steps or reduce for steps, reduce in parts):
                continue
            made = [
                self._add(
                    node.name,
                    kind,
                    steps,
                    lane=shard,
                    after=self.awaited,
                    barrier=len(programs) > 1,
                    reads=reads,
                    writes=writes,
                    portion=self.partition.shards[shard] / self.arrays.batch if counts else 0,
                )
                for shard, ((steps, _), (reads, writes)) in enumerate(zip(parts, arrays, strict=True))
            ]
            counts = False
            reduces = [reduce for _, reduce in parts if reduce is not None]
            if reduces:
                add = [tree_sum([reduce.array for reduce in reduces])] if len(reduces) > 1 else []
                self.awaited = (
                    self._add(
                        node.name,
                        kind,
                        [*add, reduces[0].then],
                        lane=0,
                        after=[*made, *self.awaited],
                        reads=[array for reads, _ in arrays for array in reads],
                        writes=[
                            *(array for _, writes in arrays for array in writes),
                            *self.operands[node.name][0].state.values(),
                            *self._prepared(node),
                        ],
                    ),
                )
        return made

    def _add(
        self,
        name: str,
        kind: str,
        steps: Sequence[Step],
        *,
        lane: int | None = None,
        after: Sequence[Task] = (),
        urgent: bool = False,
        inline: bool = False,
        barrier: bool = False,
        reads: Sequence[Array] = (),
        writes: Sequence[Array] = (),
        portion: float = 0.0,
    ) -> Task:
        task = Task(
            name=name,
            kind=kind,
            steps=steps,
            after=tuple(after),
            lane=lane,
            urgent=urgent,
            inline=inline,
            barrier=barrier,
            reads=reads,
            writes=writes,
            portion=portion,
        )
        if lane is not None:
            self.last[lane] = task
        return self.tasks.add(task)

    def _writes(self, node: Node, tasks: Sequence[Task], names: Sequence[str]) -> None:
        ranges = self.arrays.weights.ranges(node)
        self.writers += [(*ranges[name], task) for name in names for task in tasks]


class _BackwardArrays:
    """What the three programs of a node's backward pass read and write."""

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
        passes_on = "dy" in node.layer.passes_on  # every dx lies where dy does, and stays as it is
        gradients = [dx for dx in o.input_grads if dx is not None and not passes_on]
        self.input = [*read, *common, *o.params.values()], [*gradients, *by_lifetime.get("input", [])]
        self.params = [*read, *common], [*o.grads.values(), *by_lifetime.get("params", [])]


def _forward_arrays(layer: Layer, o: Operands, *inputs: Shape) -> tuple[list[Array], list[Array]]:
    """What a forward pass reads and writes; running statistics change at an all-reduce alone."""
    reads = [*o.inputs, *o.params.values(), *o.state.values()]
    writes = [] if "x" in layer.passes_on else [o.output]  # a value that is passed on lies where x does
    for name, buffer in layer.scratch(*inputs, n=o.output.shape[-1], mode=o.mode).items():
        if name in o.buffers and buffer.lifetime in ("prepare", "forward", "kept"):
            (reads if buffer.lifetime == "prepare" else writes).append(o.buffers[name])
    return reads, writes


def _steps(program: Program) -> list[Step]:
    """The steps of a program that one shard runs by itself: its sums are the sums over all."""
    return [item.then if isinstance(item, Reduce) else item for item in program]


def _between_reduces(program: Program) -> Iterator[tuple[list[Step], Reduce | None]]:
    """The steps up to each all-reduce, and those behind the last one."""
    steps: list[Step] = []
    for item in program:
        if isinstance(item, Reduce):
            yield steps, item
            steps = []
        else:
            steps.append(item)
    yield steps, None


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows of each task of a batch gradient."""
    wanted = -(-rows // TASKS // ALIGNED_ROWS) * ALIGNED_ROWS
    height = min(max(wanted, FEWEST_ROWS), MOST_ROWS)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def _overlapping(ranges: Sequence[tuple[int, int, Task]], start: int, stop: int) -> Iterator[Task]:
    """The tasks of all ranges that have an element in common with another range."""
    yield from dict.fromkeys(task for first, last, task in ranges if first < stop and start < last)
