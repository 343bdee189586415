"""Matrix products have one thread each while a program runs, in every worker, and as many as before afterwards."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cnnspec.kernels.blas import one_blas_thread
from cnnspec.workers import WorkerPool, shared
from cnnspec.workers.processes import Processes
from cnnspec.workers.threads import Threads


def most_threads() -> int:
    return max(int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas")


@pytest.mark.parametrize("kind", [Processes, Threads])
def test_every_worker_has_one_thread(kind: type[Processes | Threads]) -> None:
    if kind is Processes and not Processes.supported():
        pytest.skip("this system has no fork that is safe here")
    found = shared((2,), "int64")

    def task(worker: int) -> None:
        found[worker] = most_threads()

    pool = WorkerPool(2, kind)
    with threadpool_limits(3, user_api="blas"):
        before = most_threads()
        pool.run([[lambda: task(0), lambda: task(1)]])
        assert found.tolist() == [1, 1]
        assert most_threads() == before
    pool.close()


def test_the_last_to_leave_restores() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread:
            entered.set()
            leave.wait()

    with threadpool_limits(3, user_api="blas"):
        before, thread = most_threads(), threading.Thread(target=other)
        thread.start()
        entered.wait()
        with one_blas_thread, one_blas_thread:
            both = most_threads()
        one = most_threads()
        leave.set()
        thread.join()
        assert (both, one, most_threads()) == (1, 1, before)


def test_a_failure_restores_too() -> None:
    with threadpool_limits(3, user_api="blas"):
        before = most_threads()
        with pytest.raises(ZeroDivisionError), one_blas_thread:
            np.int64(1 // 0)
        assert most_threads() == before
