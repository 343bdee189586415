"""Ranks that are processes of one machine, forked by a test: an exchange without MPI."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.ranks import Exchange
from cnnspec.ranks.exchange import places
from cnnspec.workers import shared

T = TypeVar("T")
ROOM = 1 << 16  # bytes that a rank tells at once
PATIENCE = 60  # seconds


class LocalExchange(Exchange):
    """Every rank writes a piece to its row of shared memory; all meet; all read; all meet again."""

    def __init__(self, rank: int, size: int, rows: Array, barrier: Any) -> None:
        self.rank, self.size, self.rows, self.barrier = rank, size, rows, barrier

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        assert array.flags.c_contiguous
        assert array.ndim == 1
        assert sum(counts) == len(array)
        parts = [array[place].view(np.uint8) for place in places(counts)]
        for first in range(0, max(map(len, parts)), ROOM):
            pieces = [part[first : first + ROOM] for part in parts]
            self.rows[self.rank, : len(pieces[self.rank])] = pieces[self.rank]
            self.barrier.wait(PATIENCE)
            for rank, piece in enumerate(pieces):
                piece[...] = self.rows[rank, : len(piece)]
            self.barrier.wait(PATIENCE)

    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        told = self.tell([given[place] for place in places(give)])
        for place, parts in zip(places(take), told, strict=True):
            taken[place] = parts[self.rank]


def on_ranks(size: int, work: Callable[[Exchange], T]) -> list[T]:
    """What `work` returns on each of as many ranks."""
    context = multiprocessing.get_context("fork")
    rows, barrier, results = shared((size, ROOM)), context.Barrier(size), context.SimpleQueue()

    def run(rank: int) -> None:
        try:
            results.put((rank, work(LocalExchange(rank, size, rows, barrier)), None))
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
