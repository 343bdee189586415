"""Random graphs of tasks give the serial result on any number of workers, in phases and through the queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np
import pytest

from cnnspec.kernels.step import Array, join_steps
from cnnspec.workers import Program, WorkerPool, Workers, WorkQueue, shared
from tests.workers.kinds import KINDS

MODULUS = 1_000_003


@dataclass
class TaskGraph:
    """Tasks each of which computes a number from those of earlier ones."""

    sources: list[list[int]]  # of each task, the tasks that it reads
    slow: set[int]
    values: Array
    failing: Array  # the task that fails, or -1

    def compute(self, task: int) -> None:
        """Compute a task's value, which is 0 where it read a value that was not there yet."""
        if task in self.slow:
            time.sleep(2e-4)
        if self.failing[0] == task:
            raise ValueError("broken task")
        read = [int(self.values[source]) for source in self.sources[task]]
        self.values[task] = 0 if 0 in read else (sum(read) * 31 + task + 1) % MODULUS + 1

    def expected(self) -> list[int]:
        """The values, one task after the other."""
        values: list[int] = []
        for task, sources in enumerate(self.sources):
            values.append((sum(values[source] for source in sources) * 31 + task + 1) % MODULUS + 1)
        return values


def random_graph(random: Random) -> TaskGraph:
    count = random.randrange(1, 25)
    sources = [random.sample(range(task), random.randrange(min(task, 3) + 1)) for task in range(count)]
    slow = {task for task in range(count) if random.random() < 0.2}
    return TaskGraph(sources, slow, shared((count,), "int64"), shared((1,), "int64", fill=-1))


def in_phases(graph: TaskGraph, pool: WorkerPool, random: Random) -> Program:
    """A phase for each depth of the graph."""
    depths: list[int] = []
    for sources in graph.sources:
        depths.append(1 + max((depths[source] for source in sources), default=-1))
    return [
        [partial(graph.compute, task) for task, depth in enumerate(depths) if depth == level]
        for level in range(max(depths) + 1)
    ]


def through_the_queue(graph: TaskGraph, pool: WorkerPool, random: Random) -> Program:
    """Every task enters the queue, at either end, when the last one that it reads is done."""
    queue = WorkQueue(pool)
    done = queue.countdown(len(graph.sources), queue.finish)
    begins: list[list[Callable[[], object]]] = [[] for _ in graph.sources]  # of each task, what its end sets off
    started: list[int] = []
    for task in reversed(range(len(graph.sources))):
        number = queue.add(join_steps([partial(graph.compute, task), *begins[task], done]))
        put = partial(random.choice([queue.put_first, queue.put_last]), number)
        if graph.sources[task]:
            enter = queue.countdown(len(graph.sources[task]), put)
            for source in graph.sources[task]:
                begins[source].append(enter)
        else:
            started.append(number)
    cut = random.randrange(len(started) + 1)
    parts = [started[:cut], started[cut:]]
    return [[queue.reset], queue.phase([partial(queue.put_last, *part) for part in parts])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("program_of", [in_phases, through_the_queue])
def test_the_result_is_the_serial_one(
    program_of: Callable[[TaskGraph, WorkerPool, Random], Program], size: int, kind: type[Workers]
) -> None:
    pool, random = WorkerPool(size, kind), Random(size)
    graphs = [random_graph(random) for _ in range(20)]
    programs = [program_of(graph, pool, random) for graph in graphs]
    pool.learn(*programs)
    for graph, program in zip(graphs, programs, strict=True):
        for _ in range(3):
            graph.values.fill(0)
            pool.run(program)
            assert graph.values.tolist() == graph.expected()
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("program_of", [in_phases, through_the_queue])
def test_whichever_task_fails_the_error_is_raised_and_the_next_run_is_whole(
    program_of: Callable[[TaskGraph, WorkerPool, Random], Program], size: int, kind: type[Workers]
) -> None:
    pool, random = WorkerPool(size, kind), Random(size)
    graphs = [random_graph(random) for _ in range(8)]
    programs = [program_of(graph, pool, random) for graph in graphs]
    pool.learn(*programs)
    for graph, program in zip(graphs, programs, strict=True):
        for _ in range(4):
            graph.failing[0] = failing = random.randrange(len(graph.sources))
            graph.values.fill(0)
            with pytest.raises(ValueError, match="broken task"):
                pool.run(program)
            assert graph.values[failing] == 0
            assert np.isin(graph.values, [0, *graph.expected()]).all()
            graph.failing[0] = -1
            graph.values.fill(0)
            pool.run(program)
            assert graph.values.tolist() == graph.expected()
    pool.close()
