"""A context in which every matrix product of the process runs on one thread.

Workers share the processors among themselves. A product that started threads of its own would compete with them, and
would add up in another order, so that bits would depend on the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy  # noqa: F401 - loads the BLAS whose threads are set
from threadpoolctl import ThreadpoolController

Get = Callable[[], int]
Set = Callable[[int], object]


@cache
def _libraries() -> tuple[tuple[Get, Set], ...]:
    """The functions that get and set the number of threads, of every loaded BLAS library; the search takes 1 ms.

    threadpoolctl lets one thread of the process set OpenBLAS's number of threads, and ignores all other threads without
    a word. Here the first thread that enters sets it, whichever thread that is, by OpenBLAS's own functions.
    """
    return tuple(map(_functions, ThreadpoolController().select(user_api="blas").lib_controllers))


def _functions(library: Any) -> tuple[Get, Set]:
    find = getattr(library, "_get_symbol", None)  # threadpoolctl has no public name for it
    if find and library.internal_api == "openblas" and library.threading_layer != "openmp":
        functions = [find(f"openblas_{verb}_num_threads") for verb in ("get", "set")]
        if None not in functions:
            return functions[0], functions[1]
    return library.get_num_threads, library.set_num_threads


class _OneThread:
    """A context that several threads may enter, also within itself; the last exit restores the threads of BLAS."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                libraries = _libraries()
                self._before = [get() for get, _ in libraries]
                for _, set_threads in libraries:
                    set_threads(1)
            self._inside += 1

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for (_, set_threads), count in zip(_libraries(), self._before, strict=True):
                    set_threads(count)


one_blas_thread = _OneThread()
