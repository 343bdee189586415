"""Sums over shards in one fixed binary tree, so that the result does not depend on the worker or rank that adds.

The leaves of the tree are all shards of a batch. If ranks divide them, each rank computes the largest nodes of the tree
that lie within its own shards, its blocks; after an exchange, each adds the blocks of all in the order of the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Step
from cnnspec.ranks import Exchange


def tree_sum(arrays: Sequence[Array], starts: Sequence[int] | None = None) -> Step:
    """Add arrays into the first one: neighbours, then neighbours' neighbours, ((0 + 1) + (2 + 3)) + ...

    An array may be the sum of several leaves of the tree, from one of `starts` to the next.
    """
    left = dict(zip(range(len(arrays)) if starts is None else starts, arrays, strict=True))
    last = max(left, default=0)
    pairs: list[tuple[Array, Array]] = []
    distance = 1
    while distance <= last:
        for i in range(0, last + 1 - distance, 2 * distance):
            if i in left and i + distance in left:
                pairs.append((left[i], left.pop(i + distance)))
        distance *= 2

    def step() -> None:
        for target, other in pairs:
            np.add(target, other, out=target)

    return step


def blocks(shards: range, count: int) -> list[range]:
    """Divide neighbouring shards into the fewest nodes of the tree over `count` shards.

    A node's length is a power of two, and it begins at a multiple of it; the last node may be shorter.
    """
    result = []
    start = shards.start
    while start < shards.stop:
        length = 1
        while start % (2 * length) == 0 and length < count and min(start + 2 * length, count) <= shards.stop:
            length *= 2
        result.append(range(start, min(start + length, shards.stop)))
        start = result[-1].stop
    return result


@dataclass(frozen=True)
class AllReduce:
    """Sums over all shards of a batch; every rank has neighbouring shards of it."""

    ranks: Sequence[range]  # the shards of each rank
    exchange: Exchange

    @property
    def own_shards(self) -> range:
        """The shards of this rank."""
        return self.ranks[self.exchange.rank if self.is_divided else 0]

    @property
    def is_divided(self) -> bool:
        """Whether several ranks have shards of their own."""
        return len(self.ranks) > 1

    @property
    def blocks(self) -> list[list[range]]:
        """The blocks of each rank."""
        return [blocks(shards, self.ranks[-1].stop) for shards in self.ranks]

    def group_by_block(self, arrays: Sequence[Array]) -> dict[int, list[Array]]:
        """Group this rank's arrays, one for each shard, by block; the key is the block's first shard."""
        first = self.own_shards.start
        return {
            block.start: list(arrays[block.start - first : block.stop - first])
            for block in blocks(self.own_shards, self.ranks[-1].stop)
        }

    def steps(self, arrays: Sequence[Array]) -> list[Step]:
        """Steps that leave the sum over all shards in the first of this rank's arrays; one process runs them."""
        if not self.is_divided:
            return [tree_sum(arrays)] if len(arrays) > 1 else []
        starts = [[block.start for block in of_rank] for of_rank in self.blocks]
        counts = [len(of_rank) * arrays[0].size for of_rank in starts]
        sums = np.empty(sum(counts), arrays[0].dtype)
        parts = list(sums.reshape(-1, *arrays[0].shape))
        first = sum(len(of_rank) for of_rank in starts[: self.exchange.rank])
        steps: list[Step] = []
        for part, members in zip(parts[first:], self.group_by_block(arrays).values(), strict=False):
            steps += [tree_sum(members), copy(members[0], part)]
        finish = tree_sum(parts, [start for of_rank in starts for start in of_rank])
        gathering = self.exchange.gathering(sums, counts)
        return [
            *steps,
            gathering.begin,
            gathering.end,
            finish,
            copy(parts[0], arrays[0]),
        ]
