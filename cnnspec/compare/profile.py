"""Where a step's time goes: a plan whose layers are timed, each in each direction, against the machine's own peak."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from cnnspec.graph import Graph
from cnnspec.graph.passes import PASSES
from cnnspec.kernels import blocks, cost
from cnnspec.kernels.step import Array, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Part, Program, Reduce, batch_shape
from cnnspec.optim import Loss, Optimizer
from cnnspec.plan import Plan, Training, Weights, lower, shards_of
from cnnspec.plan.stages import MEMBERS
from cnnspec.shapes import Shape
from cnnspec.workers import Phase, WorkerPool, shared

Direction = Literal["prepare", "forward", "input", "weight", "loss"]
SIDE = 512  # rows and columns of the matrices whose product is the peak
RATE = 1e-4  # of learning, so that weights stay numbers
TURN = 4  # steps with clocks, as many without, then a large product, and so on


@dataclass
class Cell:
    """What one layer does in one direction: thread time, and what it works on."""

    macs: int = 0  # of the whole batch
    bytes: int = 0  # arrays read and written, once each
    clocks: list[Array] = field(default_factory=list)  # nanoseconds; one a shard, so that workers share none
    seconds: list[float] = field(default_factory=list)  # of every step that counted

    def wrap(self, program: Program) -> list[Step | Reduce]:
        """The program with every step timed."""
        clock = shared((1,), "int64")  # other processes run steps too
        self.clocks.append(clock)
        return [
            Reduce(item.array, _clocked(item.then, clock)) if isinstance(item, Reduce) else _clocked(item, clock)
            for item in program
        ]

    def close(self) -> None:
        """Put the step's time on the list and start the next one."""
        self.seconds.append(sum(int(clock[0]) for clock in self.clocks) * 1e-9)
        for clock in self.clocks:
            clock[0] = 0

    def figures(self, busy: int) -> tuple[float, int, int]:
        """Return the seconds that `busy` workers take, multiply-accumulates and bytes."""
        return statistics.median(self.seconds) / busy, self.macs, self.bytes


def _clocked(step: Step, clock: Array) -> Step:
    read = time.perf_counter_ns

    def run() -> None:
        started = read()
        step()
        clock[0] += read() - started

    return run


class TimedLayer:
    """A layer that does what another one does and keeps the time; in every other respect it is that layer."""

    def __init__(self, layer: Layer, macs: int, rows: int, cells: dict[Direction, Cell] | None = None) -> None:
        self.layer, self.macs, self.rows = layer, macs, rows
        self.cells: dict[Direction, Cell] = {} if cells is None else cells

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def part(self, rows: slice, *inputs: Shape, n: int, mode: Mode) -> Part | None:
        """Return the part with its time counted to the whole layer's."""
        found = self.layer.part(rows, *inputs, n=n, mode=mode)
        if found is None:
            return None
        count = rows.stop - rows.start
        timed = TimedLayer(found.layer, self.macs * count // self.rows, count, self.cells)
        return dataclasses.replace(found, layer=cast(Layer, timed))

    def prepare(self, o: Operands) -> Program:
        """Timed; bound once for all shards."""
        return self._timed("prepare", self.layer.prepare(o), 0, [*o.params.values()])

    def forward(self, o: Operands) -> Program:
        """Bind the programs of the layer with every step timed."""
        return self._timed(
            "forward", self.layer.forward(o), o.output.shape[-1], [*o.inputs, o.output, *o.params.values()]
        )

    def backward(self, o: Operands) -> Backward:
        """Timed; what both gradients share counts for the input's, where somebody wants it."""
        found, n = self.layer.backward(o), o.output.shape[-1]
        wanted = [gradient for gradient in o.input_grads if gradient is not None]
        apart = self.layer.gathers is not None and self.layer.gathers not in o.grads
        first: Direction = "input" if wanted else "weight"
        return Backward(
            shared=self._timed(first, found.shared, 0, []),
            input=self._timed("input", found.input, n, [*o.output_grads, *wanted, *o.params.values()]),
            params=self._timed(
                "weight", found.params, 0 if apart else n, [*o.inputs, *o.output_grads, *o.grads.values()]
            ),
        )

    def gathered(self, dy: Array, x: Array, gradient: Array) -> Program:
        """Timed, as what it is of the whole."""
        program, images = self.layer.gathered(dy, x, gradient), x.shape[-1]
        return self._timed("weight", program, images * len(dy) / self.rows, [dy, x, gradient])

    def _timed(self, direction: Direction, program: Program, n: float, arrays: list[Array]) -> Program:
        if not program:
            return program
        cell = self.cells.setdefault(direction, Cell())
        cell.macs += round(self.macs * n)
        cell.bytes += sum(array.nbytes for array in arrays)
        return cell.wrap(program)


class TimedLoss:
    """A loss that keeps the time."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.cell = loss, Cell()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)

    def bind(self, prediction: Array, *others: Any) -> Step:
        """Bind the programs of the layer with every step timed."""
        self.cell.bytes += 2 * prediction.nbytes
        (step,) = self.cell.wrap([self.loss.bind(prediction, *others)])
        return cast(Step, step)


@dataclass(frozen=True)
class Row:
    """One layer in one direction. Seconds are those of all workers together: thread time over the threads at work."""

    layer: str
    type: str
    direction: Direction
    seconds: float
    macs: int
    bytes: int
    kernel: str | None = None
    predicted: float | None = None  # seconds

    @property
    def rate(self) -> float:
        """Floating-point operations a second, two for each multiply-accumulate of the definition."""
        return 2 * self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """All rows, in the order in which they run, and what they add up to.

    Clocks take time, so the step is also measured without them. Both, and the peak, are measured in turns, and all
    seconds and rates are medians: neighbours who slow the machine for a while slow all of them.
    """

    mode: Mode
    batch: int
    threads: int
    peak: float  # floating-point operations a second of large matrix products on as many threads
    rows: tuple[Row, ...]
    step: float  # without clocks
    timed: float  # the same with clocks
    update: float  # of it: summing the shards' gradients, and the optimizer
    steps: int  # of either kind

    @property
    def rest(self) -> float:
        """The time of a step with clocks that no row has: entering, barriers, threads that wait for one another."""
        return self.timed - self.update - sum(row.seconds for row in self.rows)

    @property
    def rate(self) -> float:
        """Floating-point operations a second of a step, two for each multiply-accumulate of the definition."""
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
    """Time a plan on random images for about so many seconds; training needs a loss and an optimizer."""
    timed: dict[str, tuple[TimedLayer, Graph]] = {}

    def time_layers(optimised: Graph) -> Graph:
        nodes = []
        for node in optimised.nodes:
            layer = TimedLayer(node.layer, node.macs, batch_shape(node.shape, 1)[0])
            timed[node.name] = (layer, dataclasses.replace(optimised, nodes=(node,)))
            nodes.append(dataclasses.replace(node, layer=cast(Layer, layer)))
        return dataclasses.replace(optimised, nodes=tuple(nodes))

    workers, weights = WorkerPool(threads), Weights(graph)
    weights.initialise(0)
    training = Training(weights, optimizer, len(shards_of(batch))) if mode == "train" and optimizer else None
    timed_loss = TimedLoss(loss) if training and loss else None
    passes = {**PASSES[mode], "time-layers": time_layers}
    bound = cast(Loss, timed_loss) if timed_loss else None
    plan = lower(graph, batch, mode, weights, workers, loss=bound, training=training, passes=passes)
    plain = lower(graph, batch, mode, weights, workers, loss=loss if training else None, training=training)
    fill(plan, graph)
    fill(plain, graph)
    cells = [cell for layer, _ in timed.values() for cell in layer.cells.values()]
    cells += [timed_loss.cell] if timed_loss else []
    turns = _turns(plan, plain, workers, cells, seconds)
    workers.close()
    busy = min(threads, max(len(shards_of(batch)), MEMBERS))
    rows = [
        Row(name, layer.type_name, direction, *cell.figures(busy))
        for name, (layer, _) in timed.items()
        for direction, cell in layer.cells.items()
    ]
    kernels = {name: kernels_of(alone, shards_of(batch)[0], mode) for name, (_, alone) in timed.items()}
    rows = [_foretold(row, kernels[row.layer], batch / busy) for row in rows]
    if timed_loss and loss:
        rows.append(Row("loss", loss.type_name, "loss", *timed_loss.cell.figures(busy)))
    return Profile(
        mode=mode,
        batch=batch,
        threads=threads,
        peak=2 * workers.size * SIDE**3 / statistics.median(turns.products),
        rows=tuple(rows),
        step=statistics.median(turns.steps),
        timed=statistics.median(turns.timed),
        update=statistics.median(turns.updates),
        steps=len(turns.steps),
    )


@dataclass
class _Turns:
    """Seconds of all that was run."""

    timed: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)


def _turns(timed: Plan, plain: Plan, workers: WorkerPool, cells: Sequence[Cell], seconds: float) -> _Turns:
    """Run both plans and the large products in turn; the cells get the times of the layers."""
    product, found = large_products(workers), _Turns()
    _turn(timed, plain, workers, product, cells, found)  # warms up
    for cell in cells:
        cell.seconds.clear()
    found, end = _Turns(), time.perf_counter() + seconds
    while not found.steps or time.perf_counter() < end:
        _turn(timed, plain, workers, product, cells, found)
    return found


def _turn(
    timed: Plan, plain: Plan, workers: WorkerPool, product: Sequence[Phase], cells: Sequence[Cell], found: _Turns
) -> None:
    for _ in range(TURN):
        started = time.perf_counter()
        middle = _halves(timed)
        ended = time.perf_counter()
        found.timed.append(ended - started)
        found.updates.append(ended - middle)
        for cell in cells:
            cell.close()
    for _ in range(TURN):
        started = time.perf_counter()
        if plain.training is None:
            plain.compute()
        else:
            plain.step(RATE)
        found.steps.append(time.perf_counter() - started)
    started = time.perf_counter()
    workers.run(product)
    found.products.append(time.perf_counter() - started)


def _halves(plan: Plan) -> float:
    """Run a plan; when it came to the update."""
    if plan.training is None:
        plan.compute()
        return time.perf_counter()
    plan.gradients()
    middle = time.perf_counter()
    plan.apply(RATE)
    return middle


def fill(plan: Plan, graph: Graph) -> None:
    """Random images and labels, as a benchmark needs them."""
    random = np.random.default_rng(0)
    plan.images[...] = random.random(plan.images.shape, np.float32)
    plan.labels[...] = random.integers(0, graph.output.shape[0], plan.batch)


def large_products(workers: WorkerPool) -> list[Phase]:
    """A phase in which every thread multiplies matrices of its own that fit its cache."""
    random = np.random.default_rng(0)
    pairs = random.random((workers.size, 2, SIDE, SIDE), np.float32)
    return [[blocks.product(a, b, np.empty_like(a)) for a, b in pairs]]


def kernels_of(alone: Graph, n: int, mode: Mode) -> Mapping[Direction, tuple[str, float]]:
    """The kernel and the foretold seconds an image, by direction, of a graph of one convolution; else nothing."""
    (node,) = alone.nodes
    case = node.layer.convolution(*node.input_shapes)
    if case is None:
        return {}
    chosen = cost.choose(case, n, mode, getattr(node.layer, "kernel", None))
    return {direction: (kernel.name, cost.nanoseconds(kernel, case, n) * 1e-9) for direction, kernel in chosen.items()}


def _foretold(row: Row, kernels: Mapping[Direction, tuple[str, float]], images: float) -> Row:
    if row.direction not in kernels:
        return row
    kernel, seconds = kernels[row.direction]
    return dataclasses.replace(row, kernel=kernel, predicted=seconds * images)
