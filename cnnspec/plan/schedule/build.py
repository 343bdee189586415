"""The tasks of a plan's programs: the layer, the shard or rows of each task, and the tasks that it waits for.

One builder makes all of them. Whether a batch is one shard or several, and whether a pass ends with an update, are its
inputs: a shard is a lane; an all-reduce is a task that all lanes wait for; rows are lanes between two barriers; and
tasks that the backward pass does not wait for, such as updates, go into the work queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

from cnnspec.graph import INPUT, Node
from cnnspec.kernels.step import Array, Step
from cnnspec.layers.base import Backward, Reduce, Steps
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.memory.liveness import value_key
from cnnspec.plan.schedule.access import BackwardAccess, forward_access
from cnnspec.plan.schedule.batch_gradients import ranges_by_rows, row_task
from cnnspec.plan.schedule.exchange import ExchangeStage, GradientExchange
from cnnspec.plan.schedule.loss_check import LossCheck
from cnnspec.plan.schedule.partition import Stage
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.plan.schedule.updates import GradientUse, TaskRange, Updates
from cnnspec.plan.state import AllReduce, Training
from cnnspec.ranks import Exchange


class Builder:
    """Builds the task graph of one program after another, each on the same arrays."""

    def __init__(self, arrays: Arrays, check: LossCheck, exchange: Exchange, *, forks: bool) -> None:
        self.arrays, self.graph, self.partition = arrays, arrays.graph, arrays.partition
        self.check = check
        self.sums = AllReduce(self.partition.ranks, exchange)
        # The lane of the second half of rows: a worker of its own only with processes, as threads wait for each other.
        self.second_lane = 1 if forks else 0
        self.operands = {
            node.name: [arrays.operands(node, shard) for shard in range(len(self.partition.shards))]
            for node in self.graph.nodes
        }
        self.prepare_steps = {
            node.name: steps
            for node in self.graph.nodes
            if (steps := _steps(node.layer.prepare(self.operands[node.name][0])))
        }
        self.exchange: GradientExchange | None = None
        if self.sums.is_divided and arrays.training is not None:
            self.exchange = GradientExchange(arrays, arrays.training, self.sums, check.run)
        self._reset()

    def _reset(self) -> None:
        self.tasks = TaskGraph()
        self.awaited: tuple[Task, ...] = ()  # the tasks before a barrier, which the next task of every lane waits for
        self.last_tasks: dict[int, Task] = {}  # the last task of each lane
        self.advance_steps: list[Step] = []  # steps that let an exchange under way go on, run at the end of tasks
        self.writers: list[TaskRange] = []  # tasks that write elements of the gradient
        self.readers: list[TaskRange] = []  # tasks of the backward pass that read elements of the weights

    # Programs.

    def prepare(self) -> TaskGraph:
        """The tasks that compute the prepared arrays of all nodes, which depend on parameters alone."""
        self._reset()
        for lane, (name, steps) in enumerate(self.prepare_steps.items()):
            self._add_prepare(name, steps, lane=lane)
        return self.tasks

    def infer(self) -> TaskGraph:
        """The tasks of a forward pass."""
        self._reset()
        self._add_forward()
        return self.tasks

    def score(self) -> TaskGraph:
        """The tasks that write predictions and losses of labelled images, after a forward pass."""
        self._reset()
        self._add_score()
        return self.tasks

    def train(self, training: Training, use: GradientUse) -> TaskGraph:
        """The tasks of a forward and a backward pass, and of what is done with the gradients."""
        self._reset()
        self._add_forward()
        scored = self._add_score()
        if self.exchange is None:
            check, shards = self._add_check(scored), len(self.partition.shards)
            for node in self._backward_nodes():
                self._add_backward(node, training)
        else:
            check, shards = self._add_backward_and_exchange(self.exchange, training), 1
        updates = Updates(self.arrays, training, self.check, check, self.writers, self.readers, shards)
        # Prepared arrays of these nodes wait for the update of their own node alone, not for that of its neighbours.
        apart = [name for name in self.prepare_steps if training.has_large_parameter(name)]
        updated = updates.add_tasks(self.tasks, use, apart)
        for name, steps in self.prepare_steps.items() if use == "update" else ():
            after = updates.tasks_of_node(self.graph.node(name), updated)
            if after:
                self._add_prepare(name, self.check.guard(steps), after=after)
        return self.tasks

    # The forward pass.

    def _add_forward(self) -> None:
        entered = []
        for shard in range(len(self.partition.shards)):
            x = self.arrays.shards[shard][value_key(INPUT)]
            entered.append(self._add(Task("input", "enter", self.arrays.entry_steps(shard), lane=shard, writes=[x])))
        if self.partition.stages:
            self.awaited = tuple(entered)
            for stage in self.partition.stages:
                self._add_stage(stage)
        else:
            for node in self.graph.nodes:
                self._add_whole(node)

    def _add_stage(self, stage: Stage) -> None:
        """Add the tasks of the nodes between two barriers: by rows in two lanes, or whole in the first lane."""
        start = len(self.tasks.tasks)
        for node in stage.nodes:
            if stage.parts:
                self._add_by_rows(node, stage)
            else:
                self._add_whole(node)
        self.awaited = tuple(self.tasks.tasks[start:])

    def _add_whole(self, node: Node) -> None:
        operands = self.operands[node.name]
        arrays = [forward_access(node.layer, o, *node.input_shapes) for o in operands]
        self._add_in_shards(node, "forward", [node.layer.forward(o) for o in operands], arrays)

    def _add_by_rows(self, node: Node, stage: Stage) -> None:
        whole = self.operands[node.name][0]
        for index, part in enumerate(stage.parts[node.name]):
            operands = self.arrays.part_operands(node, part, index, whole)
            reads, writes = forward_access(part.layer, operands, *part.shapes(*node.input_shapes))
            self._add(
                Task(
                    node.name,
                    "forward",
                    _steps(part.layer.forward(operands)),
                    lane=self.second_lane * index,
                    after=self.awaited,
                    barrier=bool(self.second_lane),
                    reads=reads,
                    writes=writes,
                    portion=(part.rows.stop - part.rows.start) / len(whole.output),
                )
            )

    def _add_score(self) -> list[Task]:
        tasks = []
        for shard in range(len(self.partition.shards)):
            steps = self.arrays.score_steps(shard)
            images = self.arrays.images_of[shard]
            writes = [self.arrays.losses[images]]
            tasks.append(self._add(Task("loss", "loss", steps, lane=shard, after=self.awaited, writes=writes)))
        return tasks

    def _add_check(self, scored: Sequence[Task]) -> Task:
        lane = 0 if len(scored) == 1 else None  # with several shards, the one that ends last looks at all losses
        return self._add(Task("losses", "check", [self.check.run], lane=lane, after=scored, inline=lane is None))

    # The backward pass.

    def _backward_nodes(self) -> list[Node]:
        """The nodes of the backward pass, in its order."""
        return [node for node in reversed(self.graph.nodes) if node.name in self.partition.differentiated]

    def _add_backward_and_exchange(self, exchange: GradientExchange, training: Training) -> Task:
        """Add the backward pass with the exchange between ranks; return the task after which all losses are checked.

        At the end every rank has the gradient of the whole batch.
        """
        stages = deque(exchange.stages())
        for number, node in enumerate(self._backward_nodes()):
            self._add_backward(node, training)
            while stages and stages[0].behind == number:
                self._add_exchange_stage(stages.popleft())
        for stage in stages:  # a network without trained parameters has no node to exchange after
            self._add_exchange_stage(stage)
        summed = self.writers
        self.writers = []
        for bucket in exchange.buckets:
            end = bucket.end(self._add, self.awaited)
            written = [*bucket.whole, *((start, stop) for start, stop, _ in summed)]
            self.writers += [(*place, end) for place in written if bucket.bounds.start <= place[0] < bucket.bounds.stop]
        return exchange.buckets[0].received

    def _add_exchange_stage(self, stage: ExchangeStage) -> None:
        self.awaited = (stage.add_tasks(self._add, list(self.last_tasks.values())),)
        self.advance_steps = [self.sums.exchange.advance]

    def _add_backward(self, node: Node, training: Training) -> None:
        operands = self.operands[node.name]
        bound = [node.layer.backward(o) for o in operands]
        arrays = [BackwardAccess(node, o) for o in operands]
        self._add_in_shards(node, "shared", [b.shared for b in bound], [a.shared for a in arrays], counts=False)
        if not (node.params and node.trainable):
            self._add_input_gradient(node, bound, arrays)
        elif node.name in self.partition.deferred:
            early = training.has_large_parameter(node.name)
            if not early:
                self._add_input_gradient(node, bound, arrays)
            reads, writes = arrays[0].params
            after = [self.last_tasks[0]] if 0 in self.last_tasks else []
            task = self._add(
                Task(
                    node.name,
                    "params",
                    _steps(bound[0].params),
                    after=after,
                    urgent=True,
                    reads=reads,
                    writes=writes,
                    portion=1,
                )
            )
            self._note_writers(node, [task], tuple(node.params))
            if early:
                self._add_input_gradient(node, bound, arrays)
        else:
            self._add_input_gradient(node, bound, arrays)
            self._add_gradients_in_lanes(node, bound, arrays)

    def _add_input_gradient(self, node: Node, bound: Sequence[Backward], arrays: Sequence[BackwardAccess]) -> None:
        tasks = self._add_in_shards(node, "input", [b.input for b in bound], [a.input for a in arrays])
        ranges = self.arrays.weights.ranges(node).values()
        self.readers += [(start, stop, task) for start, stop in ranges for task in tasks]

    def _add_gradients_in_lanes(self, node: Node, bound: Sequence[Backward], arrays: Sequence[BackwardAccess]) -> None:
        """Add tasks for the parameter gradients of each shard, in its lane, behind those of the input gradient."""
        apart = self.partition.batch_gradients.get(node.name, ())
        tasks = self._add_in_shards(
            node, "params", [b.params for b in bound], [a.params for a in arrays], counts=not apart
        )
        tied = self.partition.tied.get(node.name)
        if tied == node.name:
            sums = [list(self.arrays.tied_sum_steps(node, shard)) for shard in range(len(bound))]
            written = [((), list(o.grads.values())) for o in self.operands[node.name]]
            tasks = self._add_in_shards(node, "params", sums, written, counts=False)
        if tied in (None, node.name):
            self._note_writers(node, tasks, tuple(name for name in node.params if name not in apart))
            if apart:
                self._add_collection(node)

    def _add_collection(self, node: Node) -> None:
        """Add tasks that put x and dy of all shards side by side, for one product over all images."""
        operands = self.operands[node.name]
        x, dy = self.arrays.batch_operands(node) if self.exchange is None else self.exchange.batch_operands(node)
        collected = [
            self._add(
                Task(
                    node.name,
                    "params",
                    self.arrays.collection_steps(shard, o, x, dy),
                    lane=shard,
                    reads=[o.x, o.dy],
                    writes=[x[:, self.arrays.images_of[shard]], dy[:, self.arrays.images_of[shard]]],
                )
            )
            for shard, o in enumerate(operands)
        ]
        if self.exchange is None:
            self._add_batch_gradient(node, collected)

    def _add_batch_gradient(self, node: Node, after: Sequence[Task]) -> None:
        for rows, ranges in ranges_by_rows(self.arrays, node):
            task = self._add(row_task(self.arrays, node, rows, after))
            self.writers += [(start, stop, task) for start, stop in ranges]

    # Tasks.

    def _add_prepare(
        self, name: str, steps: Sequence[Step], *, lane: int | None = None, after: Sequence[Task] = ()
    ) -> None:
        self._add(
            Task(
                name,
                "prepare",
                steps,
                lane=lane,
                after=after,
                reads=list(self.operands[name][0].params.values()),
                writes=self._prepared_arrays(self.graph.node(name)),
            )
        )

    def _prepared_arrays(self, node: Node) -> list[Array]:
        """A node's prepared arrays, which all shards share: they depend on parameters or on sums over the batch."""
        buffers = self.operands[node.name][0].buffers
        scratch = node.layer.scratch(*node.input_shapes, n=self.partition.shards[0], mode=self.arrays.mode)
        return [buffers[of] for of, buffer in scratch.items() if buffer.lifetime == "prepare"]

    def _add_in_shards(
        self,
        node: Node,
        kind: str,
        of_shards: Sequence[Steps],
        arrays: Sequence[tuple[Sequence[Array], Sequence[Array]]],
        *,
        counts: bool = True,
    ) -> list[Task]:
        """Add tasks for a node's steps in every shard, cut at each all-reduce; return the last task of each shard.

        With `counts`, the first task of each shard is credited with the shard's portion of the node's work.
        """
        tasks: list[Task] = []
        for parts in zip(*(_between_reduces(steps) for steps in of_shards), strict=True):
            if not any(steps or reduce for steps, reduce in parts):
                continue
            tasks = [
                self._add(
                    Task(
                        node.name,
                        kind,
                        [*steps, *self.advance_steps],
                        lane=shard,
                        after=self.awaited,
                        barrier=len(of_shards) > 1,
                        reads=reads,
                        writes=writes,
                        portion=self.partition.shards[shard] / self.arrays.batch if counts else 0,
                    )
                )
                for shard, ((steps, _), (reads, writes)) in enumerate(zip(parts, arrays, strict=True))
            ]
            counts = False
            reduces = [reduce for _, reduce in parts if reduce is not None]
            if reduces:
                self._add_all_reduce(node, kind, reduces, arrays, tasks)
        return tasks

    def _add_all_reduce(
        self,
        node: Node,
        kind: str,
        reduces: Sequence[Reduce],
        arrays: Sequence[tuple[Sequence[Array], Sequence[Array]]],
        after: Sequence[Task],
    ) -> None:
        """Add the task that sums an array of all shards, which the next task of every lane waits for."""
        sum_ = self.sums.steps([reduce.array for reduce in reduces])
        statistics = self.operands[node.name][0].state.values()
        task = Task(
            node.name,
            kind,
            [*sum_, reduces[0].after_sum],
            lane=0,
            after=[*after, *self.awaited],
            reads=[array for reads, _ in arrays for array in reads],
            writes=[*chain.from_iterable(writes for _, writes in arrays), *statistics, *self._prepared_arrays(node)],
        )
        self.awaited = (self._add(task),)

    def _add(self, task: Task) -> Task:
        if task.lane is not None:
            self.last_tasks[task.lane] = task
        return self.tasks.add(task)

    def _note_writers(self, node: Node, tasks: Sequence[Task], names: Sequence[str]) -> None:
        ranges = self.arrays.weights.ranges(node)
        self.writers += [(*ranges[name], task) for name in names for task in tasks]


def _steps(steps: Steps) -> list[Step]:
    """The steps of the only shard of a batch: its own sums are the sums over all shards."""
    return [item.after_sum if isinstance(item, Reduce) else item for item in steps]


def _between_reduces(steps_and_sums: Steps) -> Iterator[tuple[list[Step], Reduce | None]]:
    """The steps up to each all-reduce, and those behind the last one."""
    steps: list[Step] = []
    for item in steps_and_sums:
        if isinstance(item, Reduce):
            yield steps, item
            steps = []
        else:
            steps.append(item)
    yield steps, None
