"""Lowering a batch in shards: each is one member's work, and all meet where statistics or gradients are summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cnnspec.graph import Node
from cnnspec.kernels import cases
from cnnspec.kernels.step import Step, in_turn
from cnnspec.layers.base import Operands, Program, Reduce
from cnnspec.plan.crew import Phase
from cnnspec.plan.layout import echo_key
from cnnspec.plan.lowering import Gate, Lowering
from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.update import Training


class Sharded(Lowering):
    """Each shard runs the whole program; so does one that is alone where layers share parameters."""

    def programs(
        self, operands: Sequence[Sequence[Operands]], prepare: Mapping[str, Step]
    ) -> tuple[list[Phase], list[Phase]]:
        """Cut at the meetings."""
        programs = [self.program(shard, operands) for shard in range(len(self.layouts))]
        phases = _phases(programs, self.team.size)
        if self.training is None or self.training.accumulate > 1:
            return phases, []
        return phases, [*phases, *self.update(self.training, prepare)]

    def program(self, shard: int, operands: Sequence[Sequence[Operands]]) -> Program:
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

    def update(self, training: Training, prepare: Mapping[str, Step]) -> list[Phase]:
        """The update by all shards' gradients, and what the next step wants, unless a loss is no number."""
        gate = Gate(self.losses)
        phases = [*training.phases(len(self.layouts)), list(prepare.values())]
        return [[gate.find], *(gate.guarded(phase) for phase in phases if phase)]

    def owner(self, node: Node) -> Node:
        """The node whose parameters a node uses: itself, unless it shares."""
        return next(other for other in self.graph.nodes if other.name == (node.share or node.name))

    def echoes(self, node: Node, shard: int) -> Iterator[Step]:
        """Add the gradients of those that share a node's parameters, in their order."""
        for other in self.graph.nodes:
            if other.share == node.name and other.name in self.wanted:
                for name, total in self.gradients(node, shard).items():
                    yield cases.accumulate(total, self.arrays[shard][echo_key(other.name, name)])


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
