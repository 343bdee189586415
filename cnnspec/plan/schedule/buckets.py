"""How the flat gradient is cut for the exchange between ranks: into buckets, and each of these into ranks' segments.

Parameters of one rule lie in the order of the layers, so a bucket from the end of the flat gradient is complete long
before the backward pass is over, and travels meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from cnnspec.graph import Node
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.batch_gradients import Range, whole_ranges
from cnnspec.plan.state.parameters import ALIGNMENT
from cnnspec.plan.state.training import CHUNK
from cnnspec.ranks.exchange import places

LEAST = 1 << 14  # the fewest elements of a bucket: a shorter message takes hardly less time
PARTS = 2  # a bucket holds at most 1/PARTS of the gradient, unless one parameter is larger

Piece = tuple[slice, slice]  # a slice of the flat gradient, and its place in the array that is exchanged


@dataclass(frozen=True)
class Bucket:
    """A range of the flat gradient, and the nodes of the backward pass, by number, after which its exchange proceeds.

    It is complete in every shard after node `complete`. After node `halfway`, in the middle of the rest of the pass,
    each rank waits for the sums of the other ranks; at the end of the pass, for the segments that they have completed.
    """

    start: int
    stop: int
    complete: int
    halfway: int


def buckets(arrays: Arrays) -> list[Bucket]:
    """The buckets of a plan's gradient, from its end on, where the last layers' parameters lie."""
    graph, weights, partition = arrays.graph, arrays.weights, arrays.partition
    passed = [node for node in reversed(graph.nodes) if node.name in partition.differentiated]
    completing = {key: number for number, node in enumerate(passed) if node.trainable for key in node.keys.values()}
    begins = [(slot.start, completing.get(slot.key, 0)) for slot in weights.slots if slot.start < weights.trained]
    batch_ranges = [whole_ranges(arrays, graph.node(name)) for name in partition.batch_gradients]
    result = []
    for start, stop in cut(begins, weights.trained, [(min(ranges)[0], max(ranges)[1]) for ranges in batch_ranges]):
        complete = max((number for place, number in begins if start <= place < stop), default=len(passed) - 1)
        result.append(Bucket(start, stop, complete, _halfway_node(passed, complete)))
    return result


def cut(begins: Sequence[tuple[int, int]], length: int, together: Sequence[Range] = ()) -> list[Range]:
    """Cut a flat gradient, from its end on, at some of the places where a parameter begins.

    `begins` holds each such place and the number of the node after which that parameter's gradient is complete. No cut
    is within a range of `together`, nor does it separate a range that is complete only when the whole gradient is.
    """
    ranges = []
    start = stop = length
    latest, last = 0, max((number for _, number in begins), default=0)
    for place, number in reversed(begins):
        full = stop - start >= LEAST and stop - place > length // PARTS
        if full and latest < last and not any(first < start < end for first, end in together):
            ranges.append((start, stop))
            stop, latest = start, 0
        start, latest = place, max(latest, number)
    return [*ranges, (0, stop)]


def _halfway_node(passed: Sequence[Node], complete: int) -> int:
    """The number of the node after which half of the backward pass's work that follows node `complete` is done."""
    work = list(accumulate(node.macs for node in passed[complete + 1 :]))
    half = (done for done, sum_ in enumerate(work, complete + 1) if 2 * sum_ >= work[-1])
    return next(half, complete)


def segments(bucket: Range, ranks: int, uncut: Sequence[Range] = ()) -> list[Range]:
    """Divide a range of the flat gradient among ranks, as evenly as possible without a cut in a range of `whole`."""
    start, stop = bucket
    ends = [start + (stop - start) * i // ranks // ALIGNMENT * ALIGNMENT for i in range(ranks)] + [stop]
    for position, end in enumerate(ends[1:-1], 1):
        cut = next((place for place in uncut if place[0] < end < place[1]), None)
        if cut is not None:
            ends[position] = min(cut, key=lambda place: abs(place - end))
    return list(pairwise(ends))


def pieces(segment: Range, without: Sequence[Range]) -> Iterator[Range]:
    """The parts of a segment outside of the ranges `without`, none longer than a chunk."""
    first, stop = segment
    for start, end in [*sorted(part for part in without if first <= part[0] < stop), (stop, stop)]:
        for begin in range(first, start, CHUNK):
            yield begin, min(begin + CHUNK, start)
        first = end


def with_places(ranges: Sequence[Range]) -> list[Piece]:
    """Pair each range with its place in an array in which all of them lie one behind the other."""
    targets = places([stop - start for start, stop in ranges])
    return [(slice(*piece), place) for piece, place in zip(ranges, targets, strict=True)]
