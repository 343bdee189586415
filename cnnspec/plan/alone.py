"""Lowering a batch that is one shard: two members work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from cnnspec.graph import Node
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Backward, Operands
from cnnspec.plan.layout import has_gradients, part_key
from cnnspec.plan.lowering import Lowering, followed, steps_of
from cnnspec.plan.stages import MEMBERS, Cut, Stage
from cnnspec.plan.update import Training
from cnnspec.workers import Phase, WorkQueue


class Alone(Lowering):
    """On the way there each member computes its rows of a layer; on the way back one leaves work to the other."""

    def programs(
        self, operands: Sequence[Sequence[Operands]], prepare: Mapping[str, Step]
    ) -> tuple[list[Phase], list[Phase]]:
        """There, and in training back."""
        alone = {node.name: shards[0] for node, shards in zip(self.graph.nodes, operands, strict=True)}
        there, last = self.there(alone)
        if self.mode == "train":
            last += self.judge(0)
        if self.mode == "infer" or self.training is None:
            return [*there, [in_turn(last)]], []
        backward = [
            (node, node.layer.backward(alone[node.name]))
            for node in reversed(self.graph.nodes)
            if node.name in self.wanted
        ]
        updating = self.back_with_updates(last, backward, self.training, prepare) if self.training.piecewise else []
        return [*there, *self.back(last, backward)], [*there, *updating] if updating else []

    def there(self, operands: Mapping[str, Operands]) -> tuple[list[Phase], list[Step]]:
        """One shard's way to the outputs: a phase for each stage, and what is left for the first member."""
        steps = self.enter(0)
        phases: list[Phase] = []
        for stage in self.stages:
            if stage.cuts:
                phases += [*([[in_turn(steps)]] if steps else []), self.side_by_side(stage, operands)]
                steps = []
            else:
                steps += [step for node in stage.nodes for step in steps_of(node.layer.forward(operands[node.name]))]
        return phases, steps

    def side_by_side(self, stage: Stage, operands: Mapping[str, Operands]) -> Phase:
        """The tasks of the members in a stage that is cut; one after the other where meetings take too long."""
        tasks = []
        for member in range(MEMBERS):
            steps: list[Step] = []
            for node in stage.nodes:
                cut = stage.cuts[node.name][member]
                steps += steps_of(cut.part.layer.forward(self.operands_of_part(node, member, cut, operands[node.name])))
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

    def back(self, last: Sequence[Step], backward: Sequence[tuple[Node, Backward]]) -> list[Phase]:
        """One shard's way back on all members: the parameters' gradients are a queue of what nobody waits for.

        `last` are the steps before it, `backward` the nodes that want gradients, from the loss on, with their programs.
        """
        queue, steps = WorkQueue(self.team), list[Step]()
        end = queue.countdown(1 + len(self.learning()), queue.finish)
        for node, found in backward:
            steps += steps_of(found.shared)
            if has_gradients(node):
                steps.append(partial(queue.first, queue.add(in_turn([*steps_of(found.params), end]))))
            steps += steps_of(found.input)
        return [[in_turn([*last, queue.reset])], queue.phase([in_turn([*steps, end])])]

    def back_with_updates(
        self,
        last: Sequence[Step],
        backward: Sequence[tuple[Node, Backward]],
        training: Training,
        prepare: Mapping[str, Step],
    ) -> list[Phase]:
        """The same, each gradient followed by the update that it allows, and that by what the next step wants.

        They come behind the input's gradient too, which reads the weights as they were. A loss that is no number leaves
        everything as it was.
        """
        queue, gate, learning, steps = WorkQueue(self.team), self.gate, self.learning(), list[Step]()
        others = [queue.add(step) for name, step in prepare.items() if name not in learning]
        rest = followed(
            queue, gate.guarded(training.rest(learning, 1)), in_turn([partial(queue.last, *others), queue.finish])
        )
        end = queue.countdown(1 + len(learning), partial(queue.last, *rest))
        for node, found in backward:
            steps += steps_of(found.shared)
            if not has_gradients(node):
                steps += steps_of(found.input)
                continue
            gradient, updates = steps_of(found.params), gate.guarded(training.updates_of(node.name, 1))
            behind = [*([prepare[node.name]] if node.name in prepare else []), end]
            if training.large(node.name):
                both = queue.countdown(2, partial(queue.first, *followed(queue, updates, in_turn(behind))))
                task = queue.add(in_turn([*gradient, both]))
                steps += [partial(queue.first, task), *steps_of(found.input), both]
            else:
                task = queue.add(in_turn([*gradient, *updates, *behind]))
                steps += [*steps_of(found.input), partial(queue.first, task)]
        return [[in_turn([*last, gate.find, queue.reset])], queue.phase([in_turn([*steps, end])])]
