"""The tasks by which ranks add up the gradients of their shards, so that all of them get the same bits.

The gradient travels in a few buckets, while the backward pass goes on to the layers below. Of each bucket:

1. Each rank is to complete one segment of the bucket for all. When the bucket is complete in all shards of a rank, the
   rank adds these up, as far as they are neighbours in the tree of the sum, and begins to send every other rank the
   sums for its segment. With them go x and dy for batch gradients and, in the first bucket, the losses.
2. Halfway to the end of the pass each rank waits for the sums from the others, completes its segment by adding them in
   the order of the tree, computes the batch gradients that lie there, and begins to send the segment to all others.
3. At the end of the pass each rank waits for the segments of all others.

So a rank sends and receives about twice the bytes of the gradient, however many ranks there are. Source: Rabenseifner,
"Optimization of Collective Reduction Operations" (2004), where the order of the sum depends on the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

from cnnspec.graph import Node
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Step
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.batch_gradients import ranges_by_rows, row_task, whole_ranges
from cnnspec.plan.schedule.buckets import Bucket, buckets, pieces, segments, with_places
from cnnspec.plan.schedule.partition import images_of_ranks
from cnnspec.plan.schedule.tasks import Task
from cnnspec.plan.state import AllReduce, Training, tree_sum
from cnnspec.ranks import Exchange, Operation
from cnnspec.ranks.exchange import places
from cnnspec.workers import shared

Add = Callable[[Task], Task]  # adds a task to a graph


class ExchangeStage(NamedTuple):
    """A part of the exchange that follows a node of the backward pass."""

    behind: int  # the number of that node in the pass
    add_tasks: Callable[[Add, Sequence[Task]], Task]  # adds tasks after the given ones; returns the last one


class Parcel:
    """Arrays with a column for each image; every rank sends the columns of its images to all others in one message."""

    def __init__(self, wholes: Sequence[Array], images: Sequence[slice], exchange: Exchange) -> None:
        counts = [part.stop - part.start for part in images]
        rows = places([len(whole) for whole in wholes])
        height = rows[-1].stop
        array: Array = shared((height * sum(counts),), wholes[0].dtype)
        parts = [array[place].reshape(height, -1) for place in places([height * count for count in counts])]
        self.array, self.wholes = array, wholes
        self.own_columns = [parts[exchange.rank][place] for place in rows]  # this rank's columns of each array
        self.operation = exchange.gathering(array, [part.size for part in parts])
        self.unpacking: list[Step] = [
            copy(part[place], whole[:, columns])
            for part, columns in zip(parts, images, strict=True)
            for place, whole in zip(rows, wholes, strict=True)
        ]


class GradientExchange:
    """The gradient buckets of one plan, and their places in the backward pass."""

    def __init__(self, arrays: Arrays, training: Training, sums: AllReduce, check_losses: Step) -> None:
        """`check_losses` is the step that checks the losses, run when those of all ranks have arrived."""
        self.buckets = [
            GradientBucket(arrays, training, sums, bucket, check_losses if number == 0 else None)
            for number, bucket in enumerate(buckets(arrays))
        ]

    def batch_operands(self, node: Node) -> tuple[Array, Array]:
        """The arrays that this rank's shards copy x and dy of a node with a batch gradient to."""
        return next(bucket.batch_operands[node.name] for bucket in self.buckets if node.name in bucket.batch_operands)

    def stages(self) -> list[ExchangeStage]:
        """All stages of the exchange, by the nodes that they follow; the order is the same in every rank."""
        stages = [
            stage
            for bucket in self.buckets
            for stage in (
                ExchangeStage(bucket.bounds.complete, bucket.begin),
                ExchangeStage(bucket.bounds.halfway, bucket.add_up),
            )
        ]
        return sorted(stages, key=lambda stage: stage.behind)


class GradientBucket:
    """One bucket of the gradient, the arrays that travel with it, and the tasks that exchange both."""

    def __init__(
        self, arrays: Arrays, training: Training, sums: AllReduce, bucket: Bucket, check_losses: Step | None = None
    ) -> None:
        self.arrays, self.sums, self.bounds, self.check_losses = arrays, sums, bucket, check_losses
        self.rank = sums.exchange.rank
        self.nodes = [
            node
            for node in map(arrays.graph.node, arrays.partition.batch_gradients)
            if any(bucket.start <= start < bucket.stop for start, _ in whole_ranges(arrays, node))
        ]
        self.whole = [place for node in self.nodes for place in whole_ranges(arrays, node)]
        self.segments = segments((bucket.start, bucket.stop), sums.exchange.size, self.whole)
        of_ranks = [list(pieces(segment, self.whole)) for segment in self.segments]
        self.pieces, self.own_pieces = (
            with_places(list(chain.from_iterable(of_ranks))),
            with_places(of_ranks[self.rank]),
        )
        self.gradient = training.gradients[0]
        self.members = list(sums.group_by_block(training.gradients[: len(sums.own_shards)]).values())
        self._bind(training, [sum(stop - start for start, stop in of_rank) for of_rank in of_ranks])

    def _bind(self, training: Training, lengths: Sequence[int]) -> None:
        """Make the arrays that ranks exchange, and the operations that exchange them."""
        exchange, blocks, dtype = self.sums.exchange, self.sums.blocks, training.weights.values.dtype
        # Trade number i sends the sum of every rank's block i; a rank with fewer blocks sends nothing.
        turns = [[of_rank[turn : turn + 1] for of_rank in blocks] for turn in range(max(map(len, blocks)))]
        self.starts = [block.start for turn in turns for blocks_of_rank in turn for block in blocks_of_rank]
        self.sent_sums: Array = shared((len(self.members), sum(lengths)), dtype)
        self.received_sums: Array = shared((len(self.starts), lengths[self.rank]), dtype)
        self.trades: list[Operation] = []
        rows = places([sum(map(len, turn)) for turn in turns])
        for number, (place, turn) in enumerate(zip(rows, turns, strict=True)):
            has_block = number < len(self.sent_sums)
            sent_counts = [length * has_block for length in lengths]
            received_counts = [lengths[self.rank] * len(blocks_of_rank) for blocks_of_rank in turn]
            sent = self.sent_sums[number if has_block else 0]
            received = self.received_sums[place].reshape(-1)
            self.trades.append(exchange.trading(sent, sent_counts, received, received_counts))
        counts = [stop - start for start, stop in self.segments]
        self.gathering = exchange.gathering(self.gradient[self.bounds.start : self.bounds.stop], counts)
        batches = [array for node in self.nodes for array in self.arrays.batch_operands(node)]
        contents = [self.arrays.losses.reshape(1, -1), *batches] if self.check_losses is not None else batches
        self.parcel: Parcel | None = None
        self.batch_operands: dict[str, tuple[Array, Array]] = {}
        if contents:
            self.parcel = Parcel(contents, images_of_ranks(self.arrays.batch, exchange.size), exchange)
            own_columns = iter(self.parcel.own_columns[len(contents) - len(batches) :])
            self.batch_operands = {node.name: (next(own_columns), next(own_columns)) for node in self.nodes}

    def begin(self, add: Add, ended: Sequence[Task]) -> Task:
        """Add tasks that sum this rank's gradients, and begin to send every rank the sums of that rank's segment."""
        before = [add(task) for task in self._within_rank(ended)] or ended
        steps: list[Step] = [trade.begin for trade in self.trades]
        reads, writes = [self.sent_sums], [self.received_sums]
        if self.parcel is not None:
            if self.check_losses is not None:
                own_losses = self.arrays.losses[self.arrays.partition.images]
                steps.append(copy(own_losses[None], self.parcel.own_columns[0]))
                reads.append(own_losses)
            steps.append(self.parcel.operation.begin)
            reads.append(self.parcel.array)
        return add(Task("gradient", "exchange", steps, lane=0, after=before, barrier=True, reads=reads, writes=writes))

    def add_up(self, add: Add, ended: Sequence[Task]) -> Task:
        """Add tasks that wait for the other ranks' sums, complete this rank's segment, and begin to send it to all."""
        steps: list[Step] = [trade.end for trade in self.trades]
        reads, writes = [self.sent_sums], [self.received_sums]
        if self.parcel is not None:
            steps += [self.parcel.operation.end, *self.parcel.unpacking]
            writes += [self.parcel.array, *self.parcel.wholes]
        steps += [self.check_losses] if self.check_losses is not None else []
        self.received = add(
            Task("gradient", "exchange", steps, lane=0, after=ended, barrier=True, reads=reads, writes=writes)
        )
        added = [add(task) for task in self._between_ranks(self.received)]
        after = [self.received, *added]
        return add(Task("gradient", "exchange", [self.gathering.begin], lane=0, after=after, barrier=True))

    def end(self, add: Add, ended: Sequence[Task]) -> Task:
        """Add the task that waits for the other ranks' segments."""
        flat = self.gradient[self.bounds.start : self.bounds.stop]
        return add(Task("gradient", "exchange", [self.gathering.end], lane=0, after=ended, barrier=True, writes=[flat]))

    def _within_rank(self, ended: Sequence[Task]) -> Iterator[Task]:
        for lane, (flat, place) in enumerate(self.pieces):
            steps: list[Step] = []
            for row, gradients in zip(self.sent_sums, self.members, strict=True):
                steps += [tree_sum([g[flat] for g in gradients])] if len(gradients) > 1 else []
                steps.append(copy(gradients[0][flat], row[place]))
            touched = [gradient[flat] for gradients in self.members for gradient in gradients]
            writes = [*touched, *(row[place] for row in self.sent_sums)]
            yield Task("gradient", "sum", steps, lane=lane, after=ended, barrier=True, writes=writes)

    def _between_ranks(self, received: Task) -> Iterator[Task]:
        for lane, (flat, place) in enumerate(self.own_pieces):
            rows = [row[place] for row in self.received_sums]
            target = self.gradient[flat]
            steps = [tree_sum(rows, self.starts), copy(rows[0], target)]
            writes = [*rows, target]
            yield Task("gradient", "sum", steps, lane=lane, after=[received], barrier=True, writes=writes)
        lanes = count(len(self.own_pieces))
        first, stop = self.segments[self.rank]
        for node in self.nodes:
            for units, written in ranges_by_rows(self.arrays, node):
                if any(first <= start < stop for start, _ in written):
                    yield row_task(self.arrays, node, units, [received], next(lanes))
