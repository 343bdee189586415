"""What a network takes in memory, known before anything is allocated, and the same on every machine.

Which kernels a plan takes, and with them its arena, follows from the machine model of the loaded BLAS. A footprint is
the largest over all models, so that no plan on any machine takes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cnnspec.graph import Graph
from cnnspec.graph.joining import joined
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.kernels.machine import MODELS, assuming
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss
from cnnspec.optim.settings import TrainSettings
from cnnspec.plan.choices import BEST, Choices
from cnnspec.plan.memory.liveness import layouts
from cnnspec.plan.schedule.partition import divide, shards_of

FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one plan: `arena` is that of the machine model that needs most; the others leave out padding."""

    arena: int  # activations, their gradients, scratch
    parameters: int
    gradients: int  # one copy a shard
    slots: int  # the optimizer's, gradients accumulated over several steps, averages and slow weights
    images: int  # the batch as it lies in memory, a byte a pixel

    @property
    def total(self) -> int:
        """All of it."""
        return self.arena + self.parameters + self.gradients + self.slots + self.images


def arena_bytes(
    graph: Graph,
    batch: int,
    mode: Mode,
    *,
    dtype: str = "float32",
    loss: Loss | None = None,
    choices: Choices = BEST,
) -> int:
    """The size of the arena that `lower` would allocate, without allocating it."""
    graph, loss = joined(graph, loss, mode)
    graph = optimise(graph, PASSES[mode] if choices.passes is None else choices.passes)
    partition = divide(graph, batch, mode, choices)
    common, shards = layouts(graph, partition, mode, dtype, loss, reuse=choices.reuse_memory)
    return common.size + sum(layout.size for layout in shards)


def training_footprint(graph: Graph, batch: int, train: TrainSettings) -> Footprint:
    """What training at a batch size takes."""
    parameters = FLOAT * graph.parameter_count
    return Footprint(
        arena=_largest_arena(graph, batch, "train", train.loss),
        parameters=parameters,
        gradients=parameters * len(shards_of(batch)),
        slots=parameters * train.slots,
        images=batch * prod(graph.input_shape),
    )


def inference_footprint(graph: Graph, batch: int, train: TrainSettings | None = None) -> Footprint:
    """What inference at a batch size takes, with the loss where there is one, as labelled images are evaluated."""
    return Footprint(
        arena=_largest_arena(graph, batch, "infer", train.loss if train else None),
        parameters=FLOAT * graph.parameter_count,
        gradients=0,
        slots=0,
        images=batch * prod(graph.input_shape),
    )


def _largest_arena(graph: Graph, batch: int, mode: Mode, loss: Loss | None) -> int:
    sizes = []
    for model in MODELS:
        with assuming(model):
            sizes.append(arena_bytes(graph, batch, mode, loss=loss))
    return max(sizes)
