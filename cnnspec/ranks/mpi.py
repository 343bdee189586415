"""Ranks that are processes of an MPI job, on one machine or on many."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from mpi4py import MPI

from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.ranks.exchange import Exchange

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
        self._wait(self.communicator.Iallgatherv(MPI.IN_PLACE, [array, counts]))

    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        """Give every rank its part of an array, and take from it its part of the other."""
        self._wait(self.communicator.Ialltoallv([given, give], [taken, take]))

    def _wait(self, request: Any) -> None:
        for _ in range(LOOKS):
            if request.Test():
                return
        while not request.Test():
            time.sleep(PAUSE)

    def abort(self, status: int) -> NoReturn:
        """End all ranks at once, with an exit status."""
        sys.stdout.flush()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)  # the library has been told, and may take a while
