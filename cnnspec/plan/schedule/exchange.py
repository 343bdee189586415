"""The tasks by which ranks make one gradient of those of their shards, each of them with the same bits.

1. Every rank adds the gradients of its shards, as far as they are neighbours in the tree of the sum.
2. Ranks tell each other losses, and what batch gradients are made of. Each one gives every other rank the sums of that
   one's segment, a part of the gradient that it completes for all.
3. Every rank completes its segment: it adds in the order of the tree, and makes the batch gradients that lie there.
4. All segments go to all ranks.

So a rank sends and receives about twice the bytes of the gradient, however many ranks there are. Source: Rabenseifner,
"Optimization of Collective Reduction Operations" (2004), where the order of the sum depends on the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, pairwise

from cnnspec.graph import Node
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Step
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.batch_gradients import Range, ranges_by_rows, row_task, whole_ranges
from cnnspec.plan.schedule.partition import images_of_ranks
from cnnspec.plan.schedule.tasks import Task
from cnnspec.plan.state import AllReduce, Training, tree_sum
from cnnspec.plan.state.parameters import ALIGNMENT
from cnnspec.plan.state.training import CHUNK
from cnnspec.ranks.exchange import places
from cnnspec.workers import shared

Piece = tuple[slice, slice]  # of the flat gradient, and where it lies in what is traded


class GradientExchange:
    """The buffers of the exchange of one plan, and the tasks that use them."""

    def __init__(self, arrays: Arrays, training: Training, sums: AllReduce) -> None:
        self.arrays, self.training, self.sums, self.exchange = arrays, training, sums, sums.exchange
        self.rank = self.exchange.rank
        made_at_once = whole_ranges(arrays)
        self.segments = segments(training.weights.trained, self.exchange.size, made_at_once)
        pieces = [list(_pieces(segment, made_at_once)) for segment in self.segments]
        self.lengths = [sum(stop - start for start, stop in of_rank) for of_rank in pieces]
        self.pieces = _numbered([piece for of_rank in pieces for piece in of_rank])
        self.own_pieces = _numbered(pieces[self.rank])
        self.members = list(sums.within(training.gradients[: len(sums.own)]).values())
        turns = range(max(map(len, sums.blocks)))
        self.blocks = [[of_rank[turn] for of_rank in sums.blocks if turn < len(of_rank)] for turn in turns]
        self.starts = [block.start for turn in self.blocks for block in turn]
        dtype = training.weights.values.dtype
        self.given: Array = shared((len(self.members), sum(self.lengths)), dtype)
        self.taken: Array = shared((len(self.starts), self.lengths[self.rank]), dtype)
        self.images = images_of_ranks(arrays.batch, self.exchange.size)
        self._collected: dict[str, tuple[Array, Array]] = {}
        self._parcels: list[Array] = []  # what all ranks have told of a batch gradient, one after the other

    def collected(self, node: Node) -> tuple[Array, Array]:
        """Where this rank's shards leave x and dy of a node whose gradient is made at once."""
        if node.name not in self._collected:
            own: list[Array] = []
            for whole in self.arrays.collected(node):
                parcel: Array = shared((whole.size,), whole.dtype)
                self._parcels.append(parcel)
                own.append(self._parts(parcel, len(whole))[self.rank])
            self._collected[node.name] = own[0], own[1]
        return self._collected[node.name]

    def add_tasks(self, add: Callable[[Task], Task], ended: Sequence[Task], find: Step) -> Task:
        """Add all tasks behind those that have `ended` the backward pass; return the one behind which all is there.

        `find` is run when the losses of all ranks are there.
        """
        before = [add(task) for task in self._within_rank(ended)] or list(ended)
        received = add(
            Task(
                "gradient",
                "exchange",
                [*self._told(), find, *self._traded()],
                lane=0,
                after=before,
                barrier=True,
                reads=[self.given],
                writes=[self.arrays.losses, self.taken, *self._parcels, *self._whole_batches()],
            )
        )
        completed = [add(task) for task in self._between_ranks(received)]
        flat = self.training.gradients[0][: self.training.weights.trained]
        counts = [stop - start for start, stop in self.segments]
        return add(
            Task(
                "gradient",
                "exchange",
                [partial(self.exchange.gather, flat, counts)],
                lane=0,
                after=[received, *completed],
                barrier=True,
                writes=[flat],
            )
        )

    def _within_rank(self, ended: Sequence[Task]) -> Iterator[Task]:
        for lane, (flat, place) in enumerate(self.pieces):
            steps: list[Step] = []
            for row, gradients in zip(self.given, self.members, strict=True):
                steps += [tree_sum([g[flat] for g in gradients])] if len(gradients) > 1 else []
                steps.append(copy(gradients[0][flat], row[place]))
            touched = [gradient[flat] for gradients in self.members for gradient in gradients]
            writes = [*touched, *(row[place] for row in self.given)]
            yield Task("gradient", "sum", steps, lane=lane, after=ended, barrier=True, writes=writes)

    def _between_ranks(self, received: Task) -> Iterator[Task]:
        for lane, (flat, place) in enumerate(self.own_pieces):
            rows = [row[place] for row in self.taken]
            target = self.training.gradients[0][flat]
            steps = [tree_sum(rows, self.starts), copy(rows[0], target)]
            writes = [*rows, target]
            yield Task("gradient", "sum", steps, lane=lane, after=[received], barrier=True, writes=writes)
        lanes = count(len(self.own_pieces))
        first, stop = self.segments[self.rank]
        for name in self.arrays.partition.batch_gradients:
            node = self.arrays.graph.node(name)
            for units, written in ranges_by_rows(self.arrays, node):
                if any(first <= start < stop for start, _ in written):
                    yield row_task(self.arrays, node, units, [received], next(lanes))

    def _told(self) -> list[Step]:
        """Steps that complete the losses, and x and dy of batch gradients."""
        images = [part.stop - part.start for part in self.images]
        losses = self.arrays.losses
        steps: list[Step] = [partial(self.exchange.gather, losses, images)]
        for parcel, whole in zip(self._parcels, self._whole_batches(), strict=True):
            steps.append(partial(self.exchange.gather, parcel, [len(whole) * count for count in images]))
            parts = self._parts(parcel, len(whole))
            steps += [copy(part, whole[:, where]) for part, where in zip(parts, self.images, strict=True)]
        return steps

    def _traded(self) -> Iterator[Step]:
        """Steps that give every rank the sums of its segment, one block of each rank after another."""
        rows = places([len(turn) for turn in self.blocks])
        for turn, place in enumerate(rows):
            there = [turn < len(of_rank) for of_rank in self.sums.blocks]
            given = self.given[turn] if there[self.rank] else self.given[0][:0]
            give = self.lengths if there[self.rank] else [0] * len(there)
            take = [self.lengths[self.rank] * found for found in there]
            yield partial(self.exchange.trade, given, give, self.taken[place].reshape(-1), take)

    def _whole_batches(self) -> list[Array]:
        nodes = [self.arrays.graph.node(name) for name in self._collected]
        return [whole for node in nodes for whole in self.arrays.collected(node)]

    def _parts(self, parcel: Array, rows: int) -> list[Array]:
        """What each rank tells: as many rows, and a column for each of its images."""
        counts = [rows * (part.stop - part.start) for part in self.images]
        return [parcel[place].reshape(rows, -1) for place in places(counts)]


def segments(length: int, ranks: int, whole: Sequence[Range] = ()) -> list[Range]:
    """Divide the flat gradient among ranks as evenly as it goes without cutting a range that is to stay whole."""
    ends = [length * i // ranks // ALIGNMENT * ALIGNMENT for i in range(ranks)] + [length]
    for position, end in enumerate(ends[1:-1], 1):
        cut = next(((start, stop) for start, stop in whole if start < end < stop), None)
        if cut is not None:
            ends[position] = min(cut, key=lambda place: abs(place - end))
    return list(pairwise(ends))


def _pieces(segment: Range, without: Sequence[Range]) -> Iterator[Range]:
    """The parts of a segment outside of some ranges, none longer than what a task takes."""
    first, stop = segment
    for start, end in [*sorted(part for part in without if first <= part[0] < stop), (stop, stop)]:
        for begin in range(first, start, CHUNK):
            yield begin, min(begin + CHUNK, start)
        first = end


def _numbered(pieces: Sequence[Range]) -> list[Piece]:
    """Pieces with their places when they lie one behind the other."""
    at = places([stop - start for start, stop in pieces])
    return [(slice(*piece), place) for piece, place in zip(pieces, at, strict=True)]
