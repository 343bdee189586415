"""Lowering: a graph, a batch size and a mode become phases of steps over one arena."""

from __future__ import annotations

from collections.abc import Mapping

from cnnspec import kernels
from cnnspec.graph import Graph
from cnnspec.graph.passes import PASSES, Pass, optimise
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss
from cnnspec.plan.alone import Alone
from cnnspec.plan.lowering import Entry, layouts, overlapped, stages_of
from cnnspec.plan.memory import Pool
from cnnspec.plan.plan import Plan
from cnnspec.plan.sharded import Sharded
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights
from cnnspec.workers import WorkerPool


def arena_bytes(graph: Graph, batch: int, mode: Mode, *, dtype: str = "float32", loss: Loss | None = None) -> int:
    """The size of the arena that `lower` would allocate, without allocating it."""
    graph = optimise(graph, PASSES[mode])
    common, shards = layouts(graph, batch, mode, dtype, loss, stages_of(graph, batch, mode))
    return common.size + sum(layout.size for layout in shards)


def lower(
    graph: Graph,
    batch: int,
    mode: Mode,
    weights: Weights,
    team: WorkerPool,
    *,
    entry: Entry | None = None,
    loss: Loss | None = None,
    training: Training | None = None,
    seed: int = 0,
    passes: Mapping[str, Pass] | None = None,
    pool: Pool | None = None,
) -> Plan:
    """Make the plan for one batch size; `passes` are the mode's own unless others are given.

    Plans with one `pool` share their memory and must not run at once.

    `train` needs a loss and a `Training`; `infer` takes a loss to report losses of labelled images. Weights and
    training state belong to the caller, so that plans of several sizes and modes work on the same ones.
    """
    kernels.load()
    graph = optimise(graph, PASSES[mode] if passes is None else passes)
    made = Alone if overlapped(graph, batch) else Sharded
    return made(graph, batch, mode, weights, team, entry or Entry(), loss, training, seed, pool or Pool()).plan()
