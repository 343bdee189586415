"""Workers that are processes, forked from the caller."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from cnnspec.diagnostics import RunError
from cnnspec.workers.base import Semaphore, State, Workers
from cnnspec.workers.program import Program
from cnnspec.workers.shared_memory import shared

LONGEST_REPORT = 4096  # bytes that a pipe takes at once, whole (PIPE_BUF)


class Processes(Workers):
    """Processes share the caller's arrays and no lock: they run Python at the same time, and a barrier takes 1 us.

    Errors: RunError where one of them was killed.

    They hold none of the caller's files, so that locks and pipes are closed when the caller ends.
    """

    polls = 5000  # 0.5 ms, five times as long as waking up takes: most waits at a barrier are shorter

    def __init__(self, size: int, programs: Sequence[Program], state: State) -> None:
        super().__init__(size, programs, state)
        self._caller = os.getpid()
        self._failed = shared((1,), "int64").data
        self._errors, self._reports = os.pipe()
        os.set_blocking(self._reports, False)
        self._pids: list[int] = []
        self._files = [self._errors, self._reports]
        self._finalize = weakref.finalize(self, _kill_and_close, self._caller, self._pids, self._files)

    @staticmethod
    def semaphore(value: int = 0) -> Semaphore:
        """Make a semaphore in shared memory."""
        return multiprocessing.get_context("fork").Semaphore(value)

    @classmethod
    def supported(cls) -> bool:
        """Return whether this system forks safely: outside of Linux, matrix products may fail after a fork."""
        if sys.platform != "linux" or not hasattr(os, "fork"):
            return False
        try:
            cls.semaphore()
        except (OSError, ImportError, ValueError):
            return False
        return True

    def begin(self) -> None:
        """Fork the workers."""
        with warnings.catch_warnings(), _ignored_signals_blocked():
            # Python and JAX warn of forks beside threads; a child that takes none of those threads' locks is safe.
            warnings.simplefilter("ignore")
            for index in range(1, self._size):
                reader, writer = os.pipe()
                self._files.append(writer)  # held by the caller alone: the kernel closes it when the caller ends
                try:
                    pid = os.fork()
                    if pid == 0:
                        self._run_worker(index, reader)
                    self._pids.append(pid)
                finally:
                    os.close(reader)

    def end(self) -> None:
        """Kill the workers at once: they hold nothing that the caller does not hold too."""
        self._finalize()

    def _run_worker(self, index: int, caller_alive: int) -> NoReturn:
        """Run a worker in a forked process until it ends; none of the caller's code follows, not even exit handlers."""
        status = 1
        try:
            for number in _ignored():
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            gc.disable()
            null_device = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(null_device, standard)
            first = 3
            for file in sorted((self._reports, caller_alive)):
                os.closerange(first, file)
                first = file + 1
            os.closerange(first, os.sysconf("SC_OPEN_MAX"))
            _die_at_the_end_of(caller_alive)
            if os.getppid() == self._caller:
                self._serve(index)
            status = 0
        finally:
            os._exit(status)

    def _error(self) -> BaseException | None:
        if not self._failed[0]:
            return None
        self._failed[0] = 0
        error = pickle.loads(os.read(self._errors, 1 << 16))  # the first of several reports
        assert isinstance(error, BaseException)
        return error

    def _report(self, error: BaseException) -> None:
        with suppress(BlockingIOError):  # the pipe is full of other workers' errors, of which one is enough
            os.write(self._reports, _pickled(error))
        self._failed[0] = 1

    def _check(self) -> None:
        if os.getpid() != self._caller:
            if os.getppid() != self._caller:
                os._exit(1)
            return
        for pid in self._pids:
            if _has_ended(pid):
                raise RunError(
                    f"process {pid}, which computed a part of every batch, was ended from outside",
                    help="memory may have run out; a training goes on with --resume",
                )


def _ignored() -> Iterator[signal.Signals]:
    """Yield the signals that workers ignore: a terminal sends them to all processes, and the caller handles them."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            yield getattr(signal, name)


@contextmanager
def _ignored_signals_blocked() -> Iterator[None]:
    """Block the ignored signals inside of a `with`, so that none reaches a worker before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, list(_ignored()))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_at_the_end_of(caller_alive: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed, even while the process is stopped."""
    import fcntl  # only where processes fork

    fcntl.fcntl(caller_alive, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(caller_alive, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(caller_alive, fcntl.F_SETFL, fcntl.fcntl(caller_alive, fcntl.F_GETFL) | os.O_ASYNC)


def _pickled(error: BaseException) -> bytes:
    """Return bytes that the caller reads back as this error with the worker's traceback, or as one that names it."""
    name = f"{type(error).__name__}: {error}"
    lines = "".join(traceback.format_exception(error))
    try:
        error.add_note("in a worker process:\n" + lines[-LONGEST_REPORT // 2 :])
        message = pickle.dumps(error)
        pickle.loads(message)
    except Exception:
        message = b""
    return message if 0 < len(message) <= LONGEST_REPORT else pickle.dumps(RuntimeError(name[: LONGEST_REPORT // 8]))


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # a caller that ignores SIGCHLD has its children removed when they end
        return True


def _kill_and_close(caller: int, pids: Sequence[int], files: Sequence[int]) -> None:
    if os.getpid() == caller:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
    for file in files:
        os.close(file)
