"""Measures where a step's time goes: each layer in each direction, against the machine's own peak."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cnnspec.graph import Graph, Node
from cnnspec.graph.joining import join_outputs
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.kernels import blocks, cost
from cnnspec.kernels.kernel import product_macs
from cnnspec.kernels.step import Array, Step, join_steps
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss, Optimizer
from cnnspec.plan import Plan, Training, Weights, lower, shards_of
from cnnspec.plan.schedule.partition import PARTS
from cnnspec.plan.schedule.tasks import Task, TaskGraph
from cnnspec.workers import Program, WorkerPool, shared

Direction = Literal["prepare", "forward", "input", "weight", "loss", "update"]
SIDE = 512  # rows and columns of the matrices whose product is the peak
RATE = 1e-4  # a learning rate so small that weights stay finite
TURN = 4  # steps with clocks, then as many without, then a large product, in turn


DIRECTIONS: Mapping[str, Direction] = {  # the direction of each kind of task
    "prepare": "prepare",
    "forward": "forward",
    "shared": "input",
    "input": "input",
    "params": "weight",
    "loss": "loss",
    "update": "update",
}


@dataclass
class Cell:
    """One layer in one direction during the measurement: its worker time, and the size of its work."""

    macs: int = 0  # multiply-accumulates of the whole batch
    bytes: int = 0  # arrays read and written, once each
    clocks: list[Array] = field(default_factory=list)  # nanoseconds; one a task, so that workers share none
    seconds: list[float] = field(default_factory=list)  # of every step that counted

    def time(self, task: Task, macs: int) -> None:
        """Make a task's steps measure their time."""
        clock = shared((1,), "int64")  # other processes run steps too
        self.clocks.append(clock)
        self.macs += round(macs * task.portion)
        self.bytes += sum(array.nbytes for array in (*task.reads, *task.writes))
        task.steps = [_clocked(join_steps(task.steps), clock)]

    def close(self) -> None:
        """Store the time of the finished step, and reset the clocks."""
        self.seconds.append(sum(int(clock[0]) for clock in self.clocks) * 1e-9)
        for clock in self.clocks:
            clock[0] = 0

    def figures(self, busy: int) -> tuple[float, int, int]:
        """Return the seconds that `busy` workers take, multiply-accumulates and bytes."""
        return statistics.median(self.seconds) / busy, self.macs, self.bytes


def _clocked(step: Step, clock: Array) -> Step:
    time_ns = time.perf_counter_ns

    def run() -> None:
        started = time_ns()
        step()
        clock[0] += time_ns() - started

    return run


@dataclass(frozen=True)
class Row:
    """The result for one layer in one direction; seconds are worker time divided by the number of busy workers."""

    layer: str
    type: str
    direction: Direction
    seconds: float
    macs: int
    bytes: int
    kernel: str | None = None
    predicted: float | None = None  # seconds
    saves: bool = False  # whether the kernel makes fewer multiplications than the definition

    @property
    def rate(self) -> float:
        """Floating-point operations per second, two for each multiply-accumulate of the definition."""
        return 2 * self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """All rows, in the order in which they run, and their totals.

    Clocks take time, so the step is also measured without them. Both, and the peak, are measured in turns, and all
    seconds and rates are medians: other programs that slow the machine for a while slow all of them.
    """

    mode: Mode
    batch: int
    threads: int
    peak: float  # floating-point operations a second of large matrix products on as many threads
    rows: tuple[Row, ...]
    step: float  # seconds of a step without clocks
    timed: float  # seconds of a step with clocks
    update: float  # the part of `timed` for the sum of gradients and the optimizer
    steps: int  # number of steps of either kind

    @property
    def rest(self) -> float:
        """The part of a step with clocks that belongs to no row: starting, barriers, workers that wait for others."""
        return self.timed - self.update - sum(row.seconds for row in self.rows)

    @property
    def rate(self) -> float:
        """Floating-point operations per second of a step, two for each multiply-accumulate of the definition."""
        return 2 * sum(row.macs for row in self.rows) / self.step

    @property
    def fraction(self) -> float:
        """The rate of a step as a fraction of the machine's peak."""
        return self.rate / self.peak


def profile(
    graph: Graph,
    batch: int,
    mode: Mode,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    threads: int = 1,
    seconds: float = 2.0,
) -> Profile:
    """Measure a plan on random images for about `seconds`; training needs a loss and an optimizer."""
    workers, weights = WorkerPool(threads), Weights(graph)
    weights.initialise(0)
    training = Training(weights, optimizer, len(shards_of(batch))) if mode == "train" and optimizer else None
    optimised = optimise(join_outputs(graph, loss, mode)[0], PASSES[mode])
    macs = {node.name: node.macs * batch for node in optimised.nodes}
    cells: dict[tuple[str, Direction], Cell] = {}

    def observe(tasks: TaskGraph) -> None:
        wanted = {task.name for task in tasks.tasks if task.kind == "input" and task.steps}
        for task in tasks.tasks:
            if task.kind in DIRECTIONS and task.steps:
                # A task that both gradients need counts for the input's gradient, if that is computed.
                kind = "params" if task.kind == "shared" and task.name not in wanted else task.kind
                key = (task.name, DIRECTIONS[kind])
                cells.setdefault(key, Cell()).time(task, macs.get(task.name, 0))

    plan = lower(
        graph, batch, mode, weights, workers, loss=loss if training else None, training=training, observe=observe
    )
    plain = lower(graph, batch, mode, weights, workers, loss=loss if training else None, training=training)
    fill(plan, graph)
    fill(plain, graph)
    turns = _turns(plan, plain, workers, list(cells.values()), seconds)
    workers.close()
    busy = min(threads, max(len(shards_of(batch)), PARTS))
    updates = [cell for (_, direction), cell in cells.items() if direction == "update"]
    rows = _rows(graph, optimised, cells, batch, mode, busy)
    if loss and training:
        rows.append(Row("loss", loss.type_name, "loss", *cells["loss", "loss"].figures(busy)))
    return Profile(
        mode=mode,
        batch=batch,
        threads=threads,
        peak=2 * workers.size * SIDE**3 / statistics.median(turns.products),
        rows=tuple(rows),
        step=statistics.median(turns.steps),
        timed=statistics.median(turns.timed),
        update=sum(cell.figures(busy)[0] for cell in updates),
        steps=len(turns.steps),
    )


def _rows(
    graph: Graph, optimised: Graph, cells: Mapping[tuple[str, Direction], Cell], batch: int, mode: Mode, busy: int
) -> list[Row]:
    """Return a row for each direction of each layer, with the time that the cost model predicts for `busy` workers."""
    kernels = {node.name: kernels_of(node, shards_of(batch)[0], mode) for node in optimised.nodes}
    names = names_in(graph, optimised)
    types = {node.name: node.layer.type_name for node in optimised.nodes}
    return [
        _with_prediction(Row(names[name], types[name], direction, *cell.figures(busy)), kernels[name], batch / busy)
        for (name, direction), cell in cells.items()
        if name in types
    ]


@dataclass
class _Turns:
    """The seconds of each step with clocks, each step without, and each round of large products."""

    timed: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)


def _turns(timed: Plan, plain: Plan, workers: WorkerPool, cells: Sequence[Cell], seconds: float) -> _Turns:
    """Run both plans and the large products in turn, and store the layers' times in the cells."""
    product, turns = large_products(workers), _Turns()
    _turn(timed, plain, workers, product, cells, turns)  # warms up
    for cell in cells:
        cell.seconds.clear()
    turns, end = _Turns(), time.perf_counter() + seconds
    while not turns.steps or time.perf_counter() < end:
        _turn(timed, plain, workers, product, cells, turns)
    return turns


def _turn(
    timed: Plan, plain: Plan, workers: WorkerPool, product: Program, cells: Sequence[Cell], turns: _Turns
) -> None:
    for plan, seconds in ((timed, turns.timed), (plain, turns.steps)):
        for _ in range(TURN):
            started = time.perf_counter()
            if plan.training is None:
                plan.compute()
            else:
                plan.step(RATE)
            seconds.append(time.perf_counter() - started)
            for cell in cells if plan is timed else ():
                cell.close()
    started = time.perf_counter()
    workers.run(product)
    turns.products.append(time.perf_counter() - started)


def fill(plan: Plan, graph: Graph) -> None:
    """Fill a plan's arrays with random images and labels."""
    random = np.random.default_rng(0)
    plan.images[...] = random.random(plan.images.shape, np.float32)
    plan.labels[...] = random.integers(0, max(graph.output.shape[0], 2), plan.labels.shape)


def large_products(workers: WorkerPool) -> Program:
    """Return a phase in which every thread multiplies matrices of its own that fit its cache."""
    random = np.random.default_rng(0)
    pairs = random.random((workers.size, 2, SIDE, SIDE), np.float32)
    return [[blocks.product(a, b, np.empty_like(a)) for a, b in pairs]]


def names_in(graph: Graph, optimised: Graph) -> Mapping[str, str]:
    """Map each node of an optimised graph to a layer of the spec; a node made of several has the name at its place.

    Passes swap neighbours, and names stay with the places. Bare names of one type share one layer object, so the
    nearest place with that object is taken.
    """
    at = {node.name: index for index, node in enumerate(graph.nodes)}
    names = {node.name: node.name for node in optimised.nodes}
    moved = [node for node in optimised.nodes if node.name in at and graph.nodes[at[node.name]].layer is not node.layer]
    left = {*at} - {node.name for node in optimised.nodes if node not in moved}
    for node in moved:
        same = [name for name in left if graph.nodes[at[name]].layer is node.layer]
        if same:
            names[node.name] = min(same, key=lambda name: abs(at[name] - at[node.name]))
            left.remove(names[node.name])
    return names


def kernels_of(node: Node, n: int, mode: Mode) -> Mapping[Direction, tuple[str, float, bool]]:
    """Return, by direction of a convolution: kernel, predicted seconds an image, whether it saves multiplications."""
    problem = node.layer.convolution(*node.input_shapes)
    if problem is None:
        return {}
    chosen = cost.choose(problem, n, mode, getattr(node.layer, "kernel", None))
    return {
        direction: (
            kernel.name,
            cost.nanoseconds(kernel, problem, n) * 1e-9,
            kernel.work(problem).macs < product_macs(problem),
        )
        for direction, kernel in chosen.items()
    }


def _with_prediction(row: Row, kernels: Mapping[Direction, tuple[str, float, bool]], images: float) -> Row:
    if row.direction not in kernels:
        return row
    kernel, seconds, saves = kernels[row.direction]
    return dataclasses.replace(row, kernel=kernel, predicted=seconds * images, saves=saves)
