"""Run programs of tasks on processes or threads that share memory; nothing here knows what the tasks compute."""

from cnnspec.workers.base import Semaphore, Workers
from cnnspec.workers.pool import WorkerPool
from cnnspec.workers.processes import Processes
from cnnspec.workers.program import Phase, Program, Step
from cnnspec.workers.queue import WorkQueue
from cnnspec.workers.shared_memory import shared
from cnnspec.workers.threads import Threads

__all__ = [
    "Phase",
    "Processes",
    "Program",
    "Semaphore",
    "Step",
    "Threads",
    "WorkQueue",
    "WorkerPool",
    "Workers",
    "shared",
]
