"""A thread that ends all ranks when one of them is silent, because it was stopped or its machine is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from cnnspec.ranks.arrivals import bytes_received
from cnnspec.ranks.mpi import MpiExchange

BEAT = 0.5  # seconds between two signs of life
SILENCE = 7.0  # seconds without a sign of life after which a rank counts as lost
LATER = 3.0  # seconds more for ranks other than 0 and 1: one of those two is to report, and alone
ARRIVING = 16 << 10  # bytes between two looks that are more than signs of life: an array is on its way
FAILED = 4  # the exit status of a run that failed


class Watchdog:
    """Rank 0 exchanges signs of life with every other rank, on a thread beside the one that computes.

    A slow link is no silence: a sign may wait behind a large array, and as long as that arrives, nobody is given up.
    Nor is it where this thread does not run, as on a machine that was suspended: a look counts for two beats at most.
    """

    def __init__(self, exchange: MpiExchange, silent: Callable[[int, float], None]) -> None:
        self.exchange, self.silent = exchange, silent  # called with a silent rank and the seconds of its silence
        self.others = range(1, exchange.size) if exchange.rank == 0 else range(1)
        self.communicator = exchange.communicator.Dup()
        self.sign, self.sent = np.zeros(1, np.uint8), dict[int, Any]()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Stop watching; every rank must call it, while all others live."""
        self.ended.set()
        self.thread.join()
        self.exchange.tell(None)  # no rank sends signs any more
        self._listen()
        for request in self.sent.values():
            request.Wait()
        self.exchange.tell(None)

    def _watch(self) -> None:
        silence, looked, received = dict.fromkeys(self.others, 0.0), time.monotonic(), bytes_received()
        patience = SILENCE if self.exchange.rank < 2 else SILENCE + LATER
        while not self.ended.wait(BEAT):
            for rank in self.others:
                if rank not in self.sent or self.sent[rank].Test():
                    self.sent[rank] = self.communicator.Isend(self.sign, rank)
            heard, moment, arrived = self._listen(), time.monotonic(), bytes_received()
            flows = arrived - received >= ARRIVING
            for rank in self.others:
                silence[rank] = 0.0 if flows or rank in heard else silence[rank] + min(moment - looked, 2 * BEAT)
                if silence[rank] > patience:
                    self._give_up(rank)
            looked, received = moment, arrived

    def _listen(self) -> set[int]:
        """Receive all waiting signs of life, and return the ranks that sent them."""
        ranks: set[int] = set()
        status = MPI.Status()
        while self.communicator.Iprobe(status=status):
            ranks.add(status.source)
            self.communicator.Recv(np.empty(1, np.uint8), status.source)
        return ranks

    def _give_up(self, rank: int) -> None:
        self.silent(rank, SILENCE)
        self.exchange.abort(FAILED)
