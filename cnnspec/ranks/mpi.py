"""Ranks that are processes of an MPI job, on one machine or on many."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.ranks.exchange import Exchange, Operation, places
from cnnspec.ranks.printed import wait_for_launcher

LOOKS = 200  # how often a rank tests whether an operation is over before it sleeps, so that others get the processor
PAUSE = 20e-6  # seconds of sleep between two tests


class MpiExchange(Exchange):
    """The exchange of one rank. Its main process and thread alone send and receive, its workers never do."""

    def __init__(self) -> None:
        self.communicator = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self.communicator.rank, self.communicator.size
        self.library = " ".join(MPI.Get_library_version().split("\n")[0].replace("\x00", "").split())
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:  # a second thread listens for signs of life of other ranks
            raise RunError(f"{self.library} was built for one thread", "use MPICH or Open MPI as they come")
        self.under_way: list[_Requests] = []
        self._caller = os.getpid(), threading.get_ident()
        self.hosts: list[str] = self.tell(socket.gethostname())

    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Complete an array in which every rank has written its part."""
        return _Requests(self, lambda: [self.communicator.Iallgatherv(MPI.IN_PLACE, [array, counts])])

    def trading(
        self, sent: Array, sent_counts: Sequence[int], received: Array, received_counts: Sequence[int]
    ) -> Operation:
        """Send every rank its part of `sent`, and receive its part of `received`."""
        send = [sent[place] for place in places(sent_counts)]
        receive = [received[place] for place in places(received_counts)]
        distances = range(1, self.size)  # each rank begins with a different one
        come_from = [(self.rank - distance) % self.size for distance in distances]
        go_to = [(self.rank + distance) % self.size for distance in distances]

        def begin() -> list[Any]:
            requests = [self.communicator.Irecv(receive[rank], rank) for rank in come_from if len(receive[rank])]
            requests += [self.communicator.Isend(send[rank], rank) for rank in go_to if len(send[rank])]
            np.copyto(receive[self.rank], send[self.rank])
            return requests

        return _Requests(self, begin)

    def advance(self) -> None:
        """Let the library work on begun requests: most libraries have no thread or device that does so."""
        if self.under_way and (os.getpid(), threading.get_ident()) == self._caller:
            for operation in self.under_way:
                operation.is_over()

    def abort(self, status: int) -> NoReturn:
        """End all ranks at once, with an exit status; what this one has printed is passed on before."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        wait_for_launcher()
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)  # Abort may return before the library ends this process


class _Requests(Operation):
    """Requests of the library; `end` tests them again and again until all are fulfilled.

    If that takes long, it sleeps between tests and leaves the processor to others. MPI's own waiting does not: with
    more ranks than processors, each rank would wait for one that cannot run.
    """

    def __init__(self, exchange: MpiExchange, make: Callable[[], list[Any]]) -> None:
        self._exchange, self._make = exchange, make
        self._requests: list[Any] = []

    def begin(self) -> None:
        self._requests = self._make()
        self._exchange.under_way.append(self)

    def is_over(self) -> bool:
        """Test whether all requests are fulfilled; each test also lets the library work on them."""
        return bool(MPI.Request.Testall(self._requests))

    def end(self) -> None:
        looks = 0
        while not self.is_over():
            looks += 1
            if looks > LOOKS:
                time.sleep(PAUSE)
        self._exchange.under_way.remove(self)
