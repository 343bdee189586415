"""A thread that ends all ranks when one of them fails, or is silent as it was stopped or its machine is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from mpi4py import MPI

from cnnspec.ranks.arrivals import bytes_received
from cnnspec.ranks.mpi import MpiExchange

BEAT = 0.5  # seconds between two signs of life
SILENCE = 7.0  # seconds without a sign of life after which a rank counts as lost
LATER = 3.0  # seconds more for ranks other than 0 and 1: one of those two is to report, and alone
ARRIVING = 16 << 10  # bytes between two looks that are more than signs of life: an array is on its way
GRACE = 2.0  # seconds for rank 0 to come to the error of another rank, which all may have
ANSWER = 10.0  # seconds in which rank 0 ends a rank that has failed
SIGN, FAILURE = 0, 1  # tags of messages: a sign of life, and the failure of a rank


class Failure(NamedTuple):
    """Why a rank ends all others, the cure, and the exit status."""

    message: str
    help: str | None
    status: int


class Watchdog:
    """Rank 0 exchanges signs of life with every other rank, on a thread beside the one that computes.

    A rank that fails tells rank 0, which reports one failure, its own or the first that it is told, and ends all ranks.
    A slow link is no silence: a sign may wait behind a large array, and as long as that arrives, nobody is given up.
    Nor is it where this thread does not run, as on a machine that was suspended: a look counts for two beats at most.
    """

    def __init__(self, exchange: MpiExchange, report: Callable[[int, Failure], None], silence: Failure) -> None:
        """`report` is called with the first rank to fail and its failure, which is `silence` for one that is lost."""
        self.exchange, self.report, self.silence = exchange, report, silence
        self.others = range(1, exchange.size) if exchange.rank == 0 else range(1)
        self.communicator = exchange.communicator.Dup()
        self.sign, self.sent = np.zeros(1, np.uint8), dict[int, Any]()
        self.ended, self.reporting = threading.Event(), threading.Lock()
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

    def claim(self) -> None:
        """Let this thread report a failure of rank 0; if the thread beside it reports one already, wait for the end."""
        self.reporting.acquire()

    def fail(self, failure: Failure) -> NoReturn:
        """End all ranks for a failure of this one, which is not rank 0; report it only if rank 0 does not."""
        request = self.communicator.isend(failure, 0, FAILURE)
        until = time.monotonic() + ANSWER
        while time.monotonic() < until:
            time.sleep(BEAT)
            request.Test()
        self._end_all(self.exchange.rank, failure)

    def _watch(self) -> None:
        silence, looked, received = dict.fromkeys(self.others, 0.0), time.monotonic(), bytes_received()
        patience = SILENCE if self.exchange.rank < 2 else SILENCE + LATER
        while not self.ended.wait(BEAT):
            for rank in self.others:
                if rank not in self.sent or self.sent[rank].Test():
                    self.sent[rank] = self.communicator.Isend(self.sign, rank, SIGN)
            heard, moment, arrived = self._listen(), time.monotonic(), bytes_received()
            flows = arrived - received >= ARRIVING
            for rank in self.others:
                silence[rank] = 0.0 if flows or rank in heard else silence[rank] + min(moment - looked, 2 * BEAT)
                if silence[rank] > patience:
                    self._end_all(rank, self.silence)
            looked, received = moment, arrived

    def _listen(self) -> set[int]:
        """Receive all waiting messages, and return the ranks that sent them; end all ranks if one has failed."""
        ranks: set[int] = set()
        status = MPI.Status()
        while self.communicator.Iprobe(status=status):
            ranks.add(status.source)
            if status.tag == FAILURE:
                failure = self.communicator.recv(source=status.source, tag=FAILURE)
                time.sleep(GRACE)
                self._end_all(status.source, failure)
            self.communicator.Recv(np.empty(1, np.uint8), status.source, SIGN)
        return ranks

    def _end_all(self, rank: int, failure: Failure) -> NoReturn:
        self.reporting.acquire()
        self.report(rank, failure)
        self.exchange.abort(failure.status)
