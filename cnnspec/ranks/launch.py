"""Find out whether an MPI launcher has started this process as one of several, and join their exchange."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnnspec.diagnostics import RunError
from cnnspec.ranks.printed import wait_for_launcher

if TYPE_CHECKING:
    from cnnspec.ranks.mpi import MpiExchange

# The variables in which launchers pass rank and number of ranks. MPICH, Intel MPI and Microsoft MPI; Open MPI; Slurm.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
PATIENT = 10.0  # seconds after which a rank says that it waits for others to start
START = 120.0  # seconds within which all ranks have to start


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The rank of this process and the number of ranks, from the launcher's variables; (0, 1) without a launcher."""
    for rank, size in LAUNCHERS:
        with suppress(KeyError, ValueError):
            return int(environment[rank]), int(environment[size])
    return 0, 1


def unlaunched(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for a program that a rank starts but that is no rank itself."""
    launcher_variables = {name for names in LAUNCHERS for name in names}
    return {name: value for name, value in environment.items() if name not in launcher_variables}


def join(waits: Callable[[], object], late: Callable[[float], object]) -> MpiExchange:
    """Join the exchange of the ranks that a launcher has started; RunError if MPI cannot be used.

    `waits` is called if that takes long. If another rank does not start, `late` is called with the seconds that were
    waited, and this process is killed.
    """
    rank, size = launched()
    with _killed_after(START + min(rank, 2), waits, late):  # rank 0 or 1 is the first to report
        try:
            from cnnspec.ranks.mpi import MpiExchange  # mpi4py is an extra, and loading it starts MPI
        except (ImportError, RuntimeError) as error:
            raise RunError(
                f"a launcher has started {size} processes, but MPI cannot be loaded to join them: {error}",
                "python -m pip install 'cnnspec[mpi]'; a system's own MPI does without mpich: "
                "python -m pip install mpi4py",
            ) from error
        exchange = MpiExchange()
    if exchange.size != size:
        raise RunError(
            f"a launcher has started {size} processes, but {exchange.library} sees {exchange.size} of them",
            "start them by the mpiexec of the library that is loaded: the first in PATH may be another one's",
        )
    return exchange


@contextmanager
def _killed_after(seconds: float, waits: Callable[[], object], late: Callable[[float], object]) -> Iterator[None]:
    """Kill this process if the body takes longer, and call `late` before; call `waits` on the way.

    Another process does so, as MPI keeps Python's lock while it starts: neither a thread nor a signal's handler runs.
    """
    if not hasattr(os, "fork"):
        yield
        return
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(writer)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            first = min(PATIENT, seconds)
            if not _closed(reader, first):  # it is closed when the body, or its process, ends
                waits()
                if not _closed(reader, seconds - first):
                    late(seconds)
                    wait_for_launcher()
                    os.kill(os.getppid(), signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        os.waitpid(process, 0)


def _closed(reader: int, seconds: float) -> bool:
    """Whether the other end of a pipe is closed within some seconds."""
    return bool(select.select([reader], [], [], seconds)[0])
