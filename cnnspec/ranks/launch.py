"""Find out whether an MPI launcher has started this process as one of several, and join their exchange."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from cnnspec.diagnostics import RunError

if TYPE_CHECKING:
    from cnnspec.ranks.mpi import MpiExchange

# The variables in which launchers pass rank and number of ranks. MPICH, Intel MPI and Microsoft MPI; Open MPI; Slurm.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)


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


def join() -> MpiExchange:
    """Join the exchange of the ranks that a launcher has started; RunError if MPI cannot be used."""
    _, size = launched()
    try:
        from cnnspec.ranks.mpi import MpiExchange  # mpi4py is an extra, and loading it starts MPI
    except (ImportError, RuntimeError) as error:
        raise RunError(
            f"a launcher has started {size} processes, but MPI cannot be loaded to join them: {error}",
            "python -m pip install 'cnnspec[mpi]'; a system's own MPI does without mpich: python -m pip install mpi4py",
        ) from error
    exchange = MpiExchange()
    if exchange.size != size:
        raise RunError(
            f"a launcher has started {size} processes, but {exchange.library} sees {exchange.size} of them",
            "start them by the mpiexec of the library that is loaded: the first in PATH may be another one's",
        )
    return exchange
