"""The work queue: tasks that become ready while a program runs, each for the next worker that is free."""

from __future__ import annotations

from functools import partial
from weakref import proxy

from cnnspec.workers.base import Semaphore
from cnnspec.workers.pool import WorkerPool
from cnnspec.workers.program import Phase, Step
from cnnspec.workers.shared_memory import shared

FRONT, END, FINISHED = range(3)  # places in the array `_state`


class WorkQueue:
    """A queue of tasks for whichever worker is free, so that tasks of unequal length cost no waiting at a barrier.

    Tasks and countdowns are registered before `phase` is called, as workers know a task only by its number; while the
    program runs, steps put these numbers into the queue, each at most once in a run. The queue lies in shared memory.

        queue = WorkQueue(pool)
        update = queue.add(update_step)
        both = queue.countdown(2, join_steps([partial(queue.put_last, update), queue.finish]))
        program = [[queue.reset], queue.phase([join_steps([first, both]), join_steps([second, both])])]
    """

    def __init__(self, pool: WorkerPool) -> None:
        # Threads hold the program that they run, and it this queue: the pool, whose end is their end, must not be held.
        self._pool: WorkerPool = proxy(pool)
        self._tasks: list[Step] = []
        self._counts: list[int] = []  # the countdowns' values at the beginning of a run
        self._free = pool.semaphore(1)  # 0 while a worker changes the queue
        self._lock = _Lock(self._pool, self._free)
        self._wakeups = [pool.semaphore() for _ in range(pool.size)]  # released when a worker may find something
        self._state = shared((3,), "int64").data  # the elements of a memoryview are plain numbers, three times as fast
        self._queue = shared((0,), "int64").data
        self._left = shared((0,), "int64").data  # the remaining count of each countdown

    def add(self, step: Step) -> int:
        """Register a task and return its number."""
        self._tasks.append(step)
        return len(self._tasks) - 1

    def countdown(self, count: int, at_zero: Step) -> Step:
        """Return a step that lowers a counter by one; in each run, the worker that reaches zero runs `at_zero`."""
        place = len(self._counts)
        self._counts.append(count)

        def step() -> None:
            with self._lock:
                self._left[place] -= 1
                last = not self._left[place]
            if last:
                at_zero()

        return step

    def phase(self, tasks: Phase) -> Phase:
        """Return a phase that runs `tasks`, after which every worker takes tasks from the queue until it is finished.

        A step of them, or of a task in the queue, must call `finish`; a task that raises finishes the queue too.
        `reset` must have run in an earlier phase. Call this when all tasks and countdowns are registered.
        """
        self._queue = shared((2 * len(self._tasks) + 1,), "int64").data
        self._left = shared((len(self._counts),), "int64").data
        return [
            *(partial(self._finish_if_it_fails, task) for task in tasks),
            *(partial(self._work_until_finished, more) for more in self._wakeups),
        ]

    def reset(self) -> None:
        """Empty the queue and restore the countdowns at the beginning of a run, also after a run that failed."""
        for semaphore in (*self._wakeups, self._free):
            while semaphore.acquire(False):
                pass
        self._state[FRONT] = self._state[END] = len(self._tasks)  # the middle: the queue grows to both sides
        self._state[FINISHED] = False
        for place, count in enumerate(self._counts):
            self._left[place] = count
        self._free.release()

    def put_first(self, *tasks: int) -> None:
        """Put tasks at the front of the queue, in their order."""
        with self._lock:
            for task in reversed(tasks):
                self._state[FRONT] -= 1
                self._queue[self._state[FRONT]] = task
        self._wake()

    def put_last(self, *tasks: int) -> None:
        """Put tasks at the end of the queue, in their order."""
        with self._lock:
            for task in tasks:
                self._queue[self._state[END]] = task
                self._state[END] += 1
        self._wake()

    def finish(self) -> None:
        """Declare that no further task will be put into the queue: workers leave it when it is empty."""
        with self._lock:
            self._state[FINISHED] = True
        self._wake()

    def _wake(self) -> None:
        for more in self._wakeups:
            more.release()

    def _take(self) -> bool:
        """Take the first task and run it; return whether there was one."""
        with self._lock:
            front = self._state[FRONT]
            if front == self._state[END]:
                return False
            task = self._tasks[self._queue[front]]
            self._state[FRONT] = front + 1
        self._finish_if_it_fails(task)
        return True

    def _finish_if_it_fails(self, task: Step) -> None:
        try:
            task()
        except KeyboardInterrupt:  # it may hold the lock: the pool ends all workers
            raise
        except BaseException:
            self.finish()
            raise

    def _work_until_finished(self, more: Semaphore) -> None:
        finished = False
        while not finished:
            self._pool.wait(more)
            while self._take():
                pass
            finished = bool(self._state[FINISHED])


class _Lock:
    """A lock whose wait ends if its holder was killed; a class, as a generator would take four times as long."""

    def __init__(self, pool: WorkerPool, free: Semaphore) -> None:
        self._pool, self._free = pool, free

    def __enter__(self) -> None:
        if not self._free.acquire(False):
            self._pool.wait(self._free)

    def __exit__(self, *error: object) -> None:
        self._free.release()
