"""Lowering: a graph, a batch size and a mode become programs of steps over one arena."""

from __future__ import annotations

from collections.abc import Callable

from cnnspec import kernels
from cnnspec.graph import Graph
from cnnspec.graph.joining import join_outputs
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss
from cnnspec.plan.choices import BEST, Choices
from cnnspec.plan.memory.arena import ArenaPool
from cnnspec.plan.memory.arrays import Arrays, Entry
from cnnspec.plan.plan import Plan, Programs
from cnnspec.plan.schedule.binding import bind
from cnnspec.plan.schedule.build import Builder
from cnnspec.plan.schedule.loss_check import LossCheck
from cnnspec.plan.schedule.partition import divide
from cnnspec.plan.schedule.tasks import TaskGraph
from cnnspec.plan.schedule.updates import GradientUse
from cnnspec.plan.state import Training, Weights
from cnnspec.ranks import SINGLE_RANK, Exchange
from cnnspec.target import CLASS, Target
from cnnspec.workers import Program, WorkerPool


def lower(
    graph: Graph,
    batch: int,
    mode: Mode,
    weights: Weights,
    workers: WorkerPool,
    *,
    entry: Entry | None = None,
    loss: Loss | None = None,
    training: Training | None = None,
    seed: int = 0,
    choices: Choices = BEST,
    pool: ArenaPool | None = None,
    exchange: Exchange = SINGLE_RANK,
    observe: Callable[[TaskGraph], None] | None = None,
) -> Plan:
    """Make the plan for one batch size; plans with one `pool` share their memory and must not run at once.

    `train` needs a loss and a `Training`; `infer` takes a loss to report losses of labelled images. Weights and
    training state belong to the caller, so that plans of several sizes and modes work on the same ones. `observe` sees
    every task graph before it is bound and may wrap the tasks' steps, to time them. With an `exchange` of several ranks
    a training plan computes this rank's part of the batch, and ends with the update by the gradient of all.
    """
    kernels.load()
    if mode == "train" and (loss is None or training is None):
        raise ValueError("a training plan needs a loss and the state of a training")
    graph, loss = join_outputs(graph, loss, mode)
    graph = optimise(graph, PASSES[mode] if choices.passes is None else choices.passes)
    entry = entry or Entry(target=Target("mask") if len(graph.output.shape) == 3 else CLASS)
    loss = loss and loss.fitted(entry.target, graph.output.shape[0])
    if mode == "infer":
        exchange = SINGLE_RANK
    partition = divide(graph, batch, mode, choices, rank=exchange.rank, ranks=exchange.size)
    if training is not None:
        training.grow(len(partition.shards))
    arrays = Arrays(
        graph,
        partition,
        mode,
        weights,
        entry=entry,
        loss=loss,
        training=training,
        seed=seed,
        pool=pool or ArenaPool(),
        reuse=choices.reuse_memory,
    )
    check = LossCheck(arrays.losses)
    builder = Builder(arrays, check, exchange, forks=workers.forks)

    def bound(tasks: TaskGraph) -> Program:
        if observe is not None:
            observe(tasks)
        return bind(tasks, workers)

    if mode == "infer":
        return Plan(arrays, weights, workers, _inference_programs(builder, bound))
    assert training is not None
    return Plan(arrays, weights, workers, _training_programs(builder, training, bound), training, check)


def _inference_programs(builder: Builder, bound: Callable[[TaskGraph], Program]) -> Programs:
    return Programs(prepare=bound(builder.prepare()), run=bound(builder.infer()), score=bound(builder.score()))


def _training_programs(builder: Builder, training: Training, bound: Callable[[TaskGraph], Program]) -> Programs:
    def train(use: GradientUse) -> Program:
        return bound(builder.train(training, use))

    return Programs(
        prepare=bound(builder.prepare()),
        update=train("update"),
        accumulate=train("accumulate") if training.accumulate > 1 else (),
        gradients=lambda: train("sum"),
    )
