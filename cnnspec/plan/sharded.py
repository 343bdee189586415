"""Lowering a batch in shards: each is one member's work, and all meet where statistics or gradients are summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from cnnspec.graph import Node
from cnnspec.kernels.elementwise import accumulate
from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.layers.base import Operands, Reduce
from cnnspec.plan.gathered import Gathered, gathered
from cnnspec.plan.layout import LOSS, echo_key, gathered_key
from cnnspec.plan.lowering import Lowering, followed, leaving
from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.update import Training
from cnnspec.workers import Phase, WorkQueue


@dataclass(frozen=True)
class Passed:
    """A place in a shard's program: behind it nothing reads a node's parameters, or writes its gradients."""

    node: str


class Sharded(Lowering):
    """Each shard runs the whole program; so does one that is alone where layers share parameters."""

    def programs(
        self, operands: Sequence[Sequence[Operands]], prepare: Mapping[str, Step]
    ) -> tuple[list[Phase], list[Phase]]:
        """Cut at the meetings."""
        programs = [self.program(shard, operands) for shard in range(len(self.layouts))]
        products = {name: list(one.tasks()) for name, one in self.gathered.items()}
        phases = self.phases(programs, {})
        if products:
            phases.append([step for tasks in products.values() for _, step in tasks])
        if self.training is None or self.training.accumulate > 1:
            return phases, []
        if self.training.piecewise and not self.graph.sharing:
            return phases, self.updating(programs, products, self.training, prepare)
        return phases, [*phases, *self.update(self.training, prepare)]

    @cached_property
    def gathered(self) -> dict[str, Gathered]:
        """The gradients that all shards make together, by node; none where a shard is alone."""
        names = gathered(self.graph) if self.training and len(self.layouts) > 1 else {}
        return {
            node.name: Gathered(
                node,
                parameter,
                x=self.common[gathered_key(node.name, "x")],
                dy=self.common[gathered_key(node.name, "dy")],
                gradient=super(Sharded, self).gradients(node, 0)[parameter],
            )
            for node in self.graph.nodes
            if (parameter := names.get(node.name))
        }

    def gradients(self, node: Node, shard: int) -> dict[str, Array]:
        """Those that a shard makes by itself."""
        found = super().gradients(node, shard)
        if node.name in self.gathered:
            del found[self.gathered[node.name].parameter]
        return found

    def program(self, shard: int, operands: Sequence[Sequence[Operands]]) -> list[Step | Reduce | Passed]:
        """Everything that one shard does in a step, in order."""
        program: list[Step | Reduce | Passed] = [*self.enter(shard)]
        for node, of_shards in zip(self.graph.nodes, operands, strict=True):
            program += node.layer.forward(of_shards[shard])
        if self.mode == "train":
            program += [*self.judge(shard), Passed(LOSS)]
            for node, of_shards in zip(reversed(self.graph.nodes), reversed(operands), strict=True):
                if node.name in self.wanted:
                    backward = node.layer.backward(of_shards[shard])
                    program += [*backward.shared, *backward.input]
                    if self.owner(node).trainable:
                        program += [*backward.params, *self.echoes(node, shard)]
                        if node.name in self.gathered:
                            images = slice(*self.bounds[shard : shard + 2])
                            program.append(self.gathered[node.name].entry(of_shards[shard], images))
                        program.append(Passed(node.name))
        return program

    def updating(
        self,
        programs: Sequence[Sequence[Step | Reduce | Passed]],
        products: Mapping[str, Sequence[tuple[slice, Step]]],
        training: Training,
        prepare: Mapping[str, Step],
    ) -> list[Phase]:
        """The pass, and what a member does that has come to its end: the updates of large parameters all of whose
        gradients are there, or can be made, each followed by what the next step wants of it; small ones when all have
        come to the end.

        A loss that is no number leaves everything as it was.
        """
        count, left = len(programs), dict(prepare)
        queue, gate = WorkQueue(self.team), self.gate
        places = {LOSS: queue.countdown(count, gate.find)}
        large = [name for name in self.learning() if name in self.gathered or training.large(name)]
        for name in large:
            parameter = self.gathered[name].parameter if name in self.gathered else None
            updates = gate.guarded(training.updates_of(name, count, but=parameter))
            behind = gate.guarded([left.pop(name)])[0] if name in left else None
            if parameter is None:
                last = followed(queue, updates, behind)
            else:
                made = [
                    (step, gate.guarded(training.updates_within(name, parameter, part)))
                    for part, step in products[name]
                ]
                last = leaving(queue, [*made, (in_turn(updates), ())], behind)
            places[name] = queue.countdown(count, partial(queue.last, *last))
        tasks = [queue.add(step) for step in gate.guarded(list(left.values()))]
        rest = followed(
            queue, gate.guarded(training.rest(large, count)), in_turn([partial(queue.last, *tasks), queue.finish])
        )
        *phases, end = self.phases(programs, places)
        done = queue.countdown(count, partial(queue.last, *rest))
        return [[queue.reset], *phases, queue.phase([in_turn([task, done]) for task in end])]

    def phases(self, programs: Sequence[Sequence[Step | Reduce | Passed]], places: Mapping[str, Step]) -> list[Phase]:
        """Cut the shards' programs at their meetings: each phase has one task a shard, each meeting one in all.

        At a meeting every member turns round: it goes on with the shard that it had last, whose arrays are in the
        cache. `places` are steps for what is passed.
        """
        phases: list[Phase] = []
        order = list(range(len(programs)))
        for stretches in zip(*(_stretches(program, places) for program in programs), strict=True):
            tasks = [in_turn(steps) for steps, _ in stretches]
            phases.append([tasks[shard] for shard in order])
            meetings = [meeting for _, meeting in stretches if meeting is not None]
            if meetings:
                phases.append([in_turn([tree_sum([meeting.array for meeting in meetings]), meetings[0].then])])
                for first in range(self.team.size):
                    order[first :: self.team.size] = order[first :: self.team.size][::-1]
        return phases

    def update(self, training: Training, prepare: Mapping[str, Step]) -> list[Phase]:
        """The update by all shards' gradients, and what the next step wants, unless a loss is no number."""
        phases = [*training.phases(len(self.layouts)), list(prepare.values())]
        return [[self.gate.find], *(self.gate.guarded(phase) for phase in phases if phase)]

    def owner(self, node: Node) -> Node:
        """The node whose parameters a node uses: itself, unless it shares."""
        return next(other for other in self.graph.nodes if other.name == (node.share or node.name))

    def echoes(self, node: Node, shard: int) -> Iterator[Step]:
        """Add the gradients of those that share a node's parameters, in their order."""
        for other in self.graph.nodes:
            if other.share == node.name and other.name in self.wanted:
                for name, total in self.gradients(node, shard).items():
                    yield accumulate(total, self.arrays[shard][echo_key(other.name, name)])


def _stretches(
    program: Sequence[Step | Reduce | Passed], places: Mapping[str, Step]
) -> list[tuple[list[Step], Reduce | None]]:
    """The steps up to each meeting, and those behind the last one."""
    stretches: list[tuple[list[Step], Reduce | None]] = []
    steps: list[Step] = []
    for item in program:
        if isinstance(item, Reduce):
            stretches.append((steps, item))
            steps = []
        elif isinstance(item, Passed):
            steps += [places[item.node]] if item.node in places else []
        else:
            steps.append(item)
    return [*stretches, (steps, None)]
