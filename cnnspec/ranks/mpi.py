"""Ranks that are processes of an MPI job, on one machine or on many."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.ranks.exchange import Exchange, places

LOOKS = 200  # how often a rank looks whether an operation is over before it lets others have the processor
PAUSE = 20e-6  # seconds between two looks then


class MpiExchange(Exchange):
    """Operations wait by looking again and again, and leave the processor to others where it takes long.

    MPI's own waiting does not: with more ranks than processors, each would wait for one that does not run.
    """

    def __init__(self) -> None:
        self.communicator = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self.communicator.rank, self.communicator.size
        self.library = " ".join(MPI.Get_library_version().split("\n")[0].replace("\x00", "").split())
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:  # a thread listens whether the other ranks live
            raise RunError(f"{self.library} was built for one thread", "use MPICH or Open MPI as they come")
        self.hosts: list[str] = self.tell(socket.gethostname())

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Complete an array of which every rank has written its part."""
        self._wait([self.communicator.Iallgatherv(MPI.IN_PLACE, [array, counts])])

    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        """Give every rank its part of an array, and take from it its part of the other."""
        send, receive = ([array[place] for place in places(n)] for array, n in ((given, give), (taken, take)))
        distances = range(1, self.size)  # everybody begins with another rank
        come_from = [(self.rank - distance) % self.size for distance in distances]
        go_to = [(self.rank + distance) % self.size for distance in distances]
        requests = [self.communicator.Irecv(receive[rank], rank) for rank in come_from if len(receive[rank])]
        requests += [self.communicator.Isend(send[rank], rank) for rank in go_to if len(send[rank])]
        np.copyto(receive[self.rank], send[self.rank])
        self._wait(requests)

    def _wait(self, requests: list[Any]) -> None:
        for _ in range(LOOKS):
            if MPI.Request.Testall(requests):
                return
        while not MPI.Request.Testall(requests):
            time.sleep(PAUSE)

    def abort(self, status: int) -> NoReturn:
        """End all ranks at once, with an exit status."""
        sys.stdout.flush()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)  # the library has been told, and may take a while
