"""Ranks that are processes of one machine, forked by a test: an exchange without MPI."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.ranks import Exchange, Operation
from cnnspec.ranks.exchange import places
from cnnspec.workers import shared

T = TypeVar("T")
ROOM = 1 << 16  # bytes that a rank tells at once
PATIENCE = 600  # seconds


class LocalExchange(Exchange):
    """Every rank writes a piece to its row of shared memory; all meet; all read; all meet again.

    An operation does so as soon as it is begun or, if the exchange is `late`, when it is ended.
    """

    def __init__(self, rank: int, size: int, rows: Array, barrier: Any, late: bool = False) -> None:
        self.rank, self.size, self.rows, self.barrier, self.late = rank, size, rows, barrier, late

    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        assert array.flags.c_contiguous
        assert array.ndim == 1
        assert sum(counts) == len(array)
        return Local(partial(self._gather, array, counts), self.late)

    def trading(
        self, sent: Array, sent_counts: Sequence[int], received: Array, received_counts: Sequence[int]
    ) -> Operation:
        return Local(partial(self._trade, sent, sent_counts, received, received_counts), self.late)

    def advance(self) -> None:
        pass

    def _gather(self, array: Array, counts: Sequence[int]) -> None:
        parts = [array[place].view(np.uint8) for place in places(counts)]
        for first in range(0, max(map(len, parts)), ROOM):
            pieces = [part[first : first + ROOM] for part in parts]
            self.rows[self.rank, : len(pieces[self.rank])] = pieces[self.rank]
            self.barrier.wait(PATIENCE)
            for rank, piece in enumerate(pieces):
                piece[...] = self.rows[rank, : len(piece)]
            self.barrier.wait(PATIENCE)

    def _trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        told = self.tell([given[place] for place in places(give)])
        for place, parts in zip(places(take), told, strict=True):
            taken[place] = parts[self.rank]


class Local(Operation):
    """An operation that is done as a whole, early or late."""

    def __init__(self, work: Callable[[], None], late: bool) -> None:
        self.work, self.late = work, late

    def begin(self) -> None:
        if not self.late:
            self.work()

    def end(self) -> None:
        if self.late:
            self.work()


def on_ranks(size: int, work: Callable[[Exchange], T], *, late: bool = False) -> list[T]:
    """What `work` returns on each of as many ranks, whose operations are done early or late."""
    context = multiprocessing.get_context("fork")
    rows, barrier, results = shared((size, ROOM)), context.Barrier(size), context.SimpleQueue()

    def run(rank: int) -> None:
        try:
            results.put((rank, work(LocalExchange(rank, size, rows, barrier, late)), None))
        except BaseException:
            barrier.abort()
            results.put((rank, None, traceback.format_exc()))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    found = sorted((results.get() for _ in processes), key=lambda result: result[0])
    for process in processes:
        process.join()
    errors = [error for _, _, error in found if error is not None]
    assert not errors, "\n".join(errors)
    return [result for _, result, _ in found]
