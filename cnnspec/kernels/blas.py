"""One thread for every matrix product of the process, for as long as it takes.

Workers share the processors among themselves. A product that started threads of its own would compete with them, and
would add up in another order, so that bits would depend on the machine.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy  # noqa: F401 - loads the BLAS that is meant
from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> tuple[Any, ...]:
    """The loaded BLAS libraries; to find them takes a millisecond."""
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


class _OneThread:
    """A context that may be entered by several threads, and again within itself; the last to leave restores."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                libraries = _libraries()
                self._before = [library.get_num_threads() for library in libraries]
                for library in libraries:
                    library.set_num_threads(1)
            self._inside += 1

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, count in zip(_libraries(), self._before, strict=True):
                    library.set_num_threads(count)


one_blas_thread = _OneThread()
