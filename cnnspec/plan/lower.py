"""Lowering: a graph, a batch size and a mode become phases of steps over one arena."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cnnspec import kernels
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.passes import PASSES, Pass, optimise
from cnnspec.kernels import cases
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Backward, Mode, Operands, Program, Reduce, from_public
from cnnspec.optim import Loss
from cnnspec.plan.backlog import Backlog
from cnnspec.plan.crew import Phase
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
    lay_out_prepared,
    part_key,
    value_key,
)
from cnnspec.plan.memory import Pool, shared
from cnnspec.plan.plan import Plan
from cnnspec.plan.random import Stream
from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.stages import MEMBERS, Cut, Stage, stages
from cnnspec.plan.team import Team
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights

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
    return len(shards_of(batch)) == 1 and not any(node.share for node in graph.nodes)


def arena_bytes(graph: Graph, batch: int, mode: Mode, *, dtype: str = "float32", loss: Loss | None = None) -> int:
    """The size of the arena that `lower` would allocate, without allocating it."""
    prepared, shards = _layouts(optimise(graph, PASSES[mode]), batch, mode, dtype, loss)
    return prepared.size + sum(layout.size for layout in shards)


def _layouts(graph: Graph, batch: int, mode: Mode, dtype: str, loss: Loss | None) -> tuple[Layout, list[Layout]]:
    sizes = shards_of(batch)
    beside = overlapped(graph, batch)
    cut = stages(graph, sizes[0], mode) if beside else ()
    by_size = {n: lay_out(graph, n, mode, dtype, loss, overlapped=beside, stages=cut) for n in set(sizes)}
    return lay_out_prepared(graph, sizes[0], mode, dtype), [by_size[n] for n in sizes]


def lower(
    graph: Graph,
    batch: int,
    mode: Mode,
    weights: Weights,
    team: Team,
    *,
    entry: Entry | None = None,
    loss: Loss | None = None,
    training: Training | None = None,
    seed: int = 0,
    passes: Mapping[str, Pass] | None = None,
    pool: Pool | None = None,
) -> Plan:
    """Make the plan for one batch size; `passes` are the mode's own unless others are given.

    Plans with one `pool` share their memory and must not run at once.

    `train` needs a loss and a `Training`; `infer` takes a loss to report losses of labelled images. Weights and
    training state belong to the caller, so that plans of several sizes and modes work on the same ones.
    """
    kernels.load()
    graph = optimise(graph, PASSES[mode] if passes is None else passes)
    return _Lowering(graph, batch, mode, weights, team, entry or Entry(), loss, training, seed, pool or Pool()).plan()


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        batch: int,
        mode: Mode,
        weights: Weights,
        team: Team,
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
        prepared, self.layouts = _layouts(graph, batch, mode, str(dtype), loss)
        self.stages = stages(graph, batch, mode) if overlapped(graph, batch) else []
        size = prepared.size + sum(layout.size for layout in self.layouts)
        self.block = pool.take(size)
        self.arena = self.block.data[:size]
        self.prepared = prepared.bind(self.arena[: prepared.size])
        self.arrays: list[dict[Key, Array]] = []
        start = prepared.size
        for layout in self.layouts:
            self.arrays.append(layout.bind(self.arena[start : start + layout.size]))
            start += layout.size
        self.bounds = np.cumsum([0, *(layout.n for layout in self.layouts)]).tolist()
        self.images: Array = shared((batch, *graph.input_shape), entry.dtype)
        classifies = len(graph.output.shape) == 1 and not (loss and loss.reads_input)
        self.labels: Array = shared((batch,), np.int64)
        self.shares: Array | None = shared((*graph.output.shape, batch), np.float32) if self.entry.shares else None
        self.losses: Array = shared((batch,), dtype)
        self.predictions: Array | None = shared((batch,), np.int64) if classifies else None

    def plan(self) -> Plan:
        operands = [
            [self.operands(node, position, shard) for shard in range(len(self.layouts))]
            for position, node in enumerate(self.graph.nodes)
        ]
        programs = {
            node.name: _steps(node.layer.prepare(of_shards[0]))
            for node, of_shards in zip(self.graph.nodes, operands, strict=True)
        }
        prepare = {name: in_turn(steps) for name, steps in programs.items() if steps}  # one task a layer
        shards = range(len(self.layouts))
        eager: list[Phase] = []
        if overlapped(self.graph, self.batch):
            alone = {node.name: of_shards[0] for node, of_shards in zip(self.graph.nodes, operands, strict=True)}
            phases = self.there(alone)
            if self.mode == "train" and self.training:
                there, phases = phases, [*phases, *self.back(alone, self.training)]
                if self.training.piecewise:
                    eager = [*there, *self.back_with_updates(alone, self.training, prepare)]
        else:
            phases = _phases([self.program(shard, operands) for shard in shards], self.team.size)
            if self.training and self.training.accumulate == 1:
                eager = [*phases, *self.update(self.training, prepare)]
        judged = [self.judge(shard) for shard in shards] if self.mode == "infer" else []
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
            outputs=[arrays[value_key(self.graph.output.name)] for arrays in self.arrays],
            prepare=[list(prepare.values())] if prepare else [],
            phases=phases,
            judge=[[in_turn(steps) for steps in judged]] if any(judged) else [],
            eager=eager,
            gather=self.training.gather(len(self.layouts)) if self.training and self.training.accumulate > 1 else [],
            update=self.training.phases(len(self.layouts)) if self.training else [],
            weights=self.weights,
            team=self.team,
            training=self.training,
        )

    def operands(self, node: Node, position: int, shard: int) -> Operands:
        arrays = self.arrays[shard]
        own = self.prepared | arrays
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

    def program(self, shard: int, operands: list[list[Operands]]) -> Program:
        """Everything that one shard does in a step, in order."""
        program: list[Step | Reduce] = [self.enter(shard)]
        for node, of_shards in zip(self.graph.nodes, operands, strict=True):
            program += node.layer.forward(of_shards[shard])
        if self.mode == "train":
            program += self.judge(shard)
            for node, of_shards in zip(reversed(self.graph.nodes), reversed(operands), strict=True):
                if node.name in self.wanted:
                    backward = node.layer.backward(of_shards[shard])
                    program += [*backward.shared, *backward.input]
                    if self.owner(node).trainable:
                        program += [*backward.params, *self.echoes(node, shard)]
        return program

    def there(self, operands: Mapping[str, Operands]) -> list[Phase]:
        """One shard's way to the outputs, and in training to the loss: a phase for each stage."""
        steps = [self.enter(0)]
        phases: list[Phase] = []
        for stage in self.stages:
            if stage.cuts:
                phases += [[in_turn(steps)], self.side_by_side(stage, operands)]
                steps = []
            else:
                steps += [step for node in stage.nodes for step in _steps(node.layer.forward(operands[node.name]))]
        if self.mode == "train":
            steps += self.judge(0)
        return [*phases, [in_turn(steps)]]

    def side_by_side(self, stage: Stage, operands: Mapping[str, Operands]) -> Phase:
        """The tasks of the members in a stage that is cut; one after the other where meetings take too long."""
        tasks = []
        for member in range(MEMBERS):
            steps: list[Step] = []
            for node in stage.nodes:
                cut = stage.cuts[node.name][member]
                steps += _steps(cut.part.layer.forward(self.operands_of_part(node, member, cut, operands[node.name])))
            tasks.append(in_turn(steps))
        return tasks if self.team.forks else [in_turn(tasks)]

    def operands_of_part(self, node: Node, member: int, cut: Cut, whole: Operands) -> Operands:
        """A member's arrays: what was prepared, its rows of what is kept for the way back, and buffers of its own."""
        n, buffers = self.layouts[0].n, dict[str, Array]()
        for name, buffer in node.layer.scratch(*node.input_shapes, n=n, mode=self.mode).items():
            if buffer.lifetime == "prepare":
                buffers[name] = whole.buffers[name]
            elif buffer.lifetime == "kept":
                buffers[name] = whole.buffers[name][cut.rows]
        for name, buffer in cut.part.layer.scratch(*cut.part.shapes(*node.input_shapes), n=n, mode=self.mode).items():
            if buffer.lifetime == "forward":
                buffers[name] = self.arrays[0][part_key(node.name, member, name)]
        return whole.of_part(cut.rows, cut.part, buffers)

    def back(self, operands: Mapping[str, Operands], training: Training) -> list[Phase]:
        """One shard's way back on two members: the parameters' gradients are a backlog of what nobody waits for."""
        backlog, steps = Backlog(self.team), list[Step]()
        for node, backward in self.backward(operands):
            steps += _steps(backward.shared)
            if has_gradients(node):
                steps.append(partial(backlog.next, backlog.task(in_turn(_steps(backward.params)))))
            steps += _steps(backward.input)
        return [backlog.phase(steps, lambda: True)]

    def back_with_updates(
        self, operands: Mapping[str, Operands], training: Training, prepare: Mapping[str, Step]
    ) -> list[Phase]:
        """The same, each large gradient followed by the update that it allows, and that by what the next step wants.

        Small parameters are updated at the end. A loss that is no number leaves everything as it was.
        """
        backlog, steps, left = Backlog(self.team), list[Step](), dict(prepare)
        gate = Gate(self.losses)
        for node, backward in self.backward(operands):
            updates = training.updates_of(node.name) if has_gradients(node) else []
            gradient = in_turn(_steps(backward.params))
            steps += _steps(backward.shared)
            if updates:
                # they wait for their gradient, and for the input's gradient, which reads the weights as they were
                task, ended = backlog.awaited(gradient)
                behind = backlog.chain(ended, updates, left.pop(node.name, None))
                steps += [partial(backlog.next, task), *_steps(backward.input), partial(backlog.last, [behind])]
            else:
                if has_gradients(node):
                    steps.append(partial(backlog.next, backlog.task(gradient)))
                steps += _steps(backward.input)
        rest = [*training.rest(self.learning()), list(left.values())]
        return [backlog.phase(steps, gate.check), *(gate.guarded(phase) for phase in rest if phase)]

    def update(self, training: Training, prepare: Mapping[str, Step]) -> list[Phase]:
        """The update by all shards' gradients, and what the next step wants, unless a loss is no number."""
        gate = Gate(self.losses)
        phases = [*training.phases(len(self.layouts)), list(prepare.values())]
        return [[gate.find], *(gate.guarded(phase) for phase in phases if phase)]

    def backward(self, operands: Mapping[str, Operands]) -> Iterator[tuple[Node, Backward]]:
        """The nodes that want gradients, from the loss on, with their programs."""
        for node in reversed(self.graph.nodes):
            if node.name in self.wanted:
                yield node, node.layer.backward(operands[node.name])

    def learning(self) -> list[str]:
        """The nodes whose parameters get gradients."""
        return [node.name for node in self.graph.nodes if node.name in self.wanted and has_gradients(node)]

    def owner(self, node: Node) -> Node:
        """The node whose parameters a node uses: itself, unless it shares."""
        return next(other for other in self.graph.nodes if other.name == (node.share or node.name))

    def echoes(self, node: Node, shard: int) -> Iterator[Step]:
        """Add the gradients of those that share a node's parameters, in their order."""
        for other in self.graph.nodes:
            if other.share == node.name and other.name in self.wanted:
                for name, total in self.gradients(node, shard).items():
                    yield cases.accumulate(total, self.arrays[shard][echo_key(other.name, name)])

    def enter(self, shard: int) -> Step:
        """Images become the plan's type and layout: the one place where n, c, h, w turns into (h, c, w, n)."""
        start, stop = self.bounds[shard : shard + 2]
        x = self.arrays[shard][value_key(INPUT)]
        images = from_public(self.images[start:stop])
        scale, shift = (
            None if values is None else np.asarray(values, x.dtype).reshape(1, -1, 1, 1)
            for values in (self.entry.scale, self.entry.shift)
        )
        if shift is not None and not shift.any():
            shift = None

        def step() -> None:
            np.copyto(x, images, casting="unsafe")
            if scale is not None:
                np.multiply(x, scale, out=x)
            if shift is not None:
                np.add(x, shift, out=x)

        return step

    def judge(self, shard: int) -> list[Step]:
        """What labelled images are for: the likeliest class of each, and its loss."""
        found = [] if self.predictions is None else [self.predict(shard, self.predictions)]
        return found if self.loss is None else [*found, self.bind_loss(self.loss, shard)]

    def predict(self, shard: int, predictions: Array) -> Step:
        start, stop = self.bounds[shard : shard + 2]
        y, chosen = self.arrays[shard][value_key(self.graph.output.name)], predictions[start:stop]

        def step() -> None:
            np.argmax(y, axis=0, out=chosen)

        return step

    def target(self, loss: Loss, shard: int, images: slice) -> Array:
        """What the outputs are compared with."""
        if loss.reads_input:
            return self.arrays[shard][value_key(INPUT)]
        return self.labels[images] if self.shares is None else self.shares[:, images]

    def bind_loss(self, loss: Loss, shard: int) -> Step:
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


class Gate:
    """Whether all losses of a step are numbers: one member finds out, and all see it."""

    def __init__(self, losses: Array) -> None:
        self._losses, self._good = losses, shared((1,), "bool")

    def find(self) -> None:
        """Find out."""
        self._good[...] = np.isfinite(self._losses).all()

    def check(self) -> bool:
        """Find out and say it."""
        self.find()
        return bool(self._good[0])

    def guarded(self, phase: Phase) -> Phase:
        """The phase, whose tasks do nothing where they are not."""
        good = self._good.data  # whose elements are plain numbers
        return [partial(_if, good, step) for step in phase]


def _if(good: memoryview, step: Step) -> None:
    if good[0]:
        step()


def _steps(program: Program) -> list[Step]:
    """The program of a shard that is alone: its sums are the sums."""
    return [item.then if isinstance(item, Reduce) else item for item in program]


def _phases(programs: Sequence[Program], threads: int) -> list[Phase]:
    """Cut the shards' programs at their meetings: each phase has one task a shard, each meeting one in all.

    At a meeting every member turns round: it goes on with the shard that it had last, whose arrays are in the cache.
    """
    phases: list[Phase] = []
    order = list(range(len(programs)))
    for stretches in zip(*(_stretches(program) for program in programs), strict=True):
        tasks = [in_turn(steps) for steps, _ in stretches]
        phases.append([tasks[shard] for shard in order])
        meetings = [meeting for _, meeting in stretches if meeting is not None]
        if meetings:
            phases.append([in_turn([tree_sum([meeting.array for meeting in meetings]), meetings[0].then])])
            for first in range(threads):
                order[first::threads] = order[first::threads][::-1]
    return phases


def _stretches(program: Program) -> list[tuple[list[Step], Reduce | None]]:
    """The steps up to each meeting, and those behind the last one."""
    stretches: list[tuple[list[Step], Reduce | None]] = []
    steps: list[Step] = []
    for item in program:
        if isinstance(item, Reduce):
            stretches.append((steps, item))
            steps = []
        else:
            steps.append(item)
    return [*stretches, (steps, None)]
