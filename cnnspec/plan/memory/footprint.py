"""The memory that a network takes, known before anything is allocated, and the same on every machine.

Which kernels a plan takes, and with them its arena, follows from the machine model of the loaded BLAS. A footprint is
the largest over all models, so that no plan on any machine takes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cnnspec.graph import Graph
from cnnspec.graph.joining import join_outputs
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
    """The bytes of one plan: `arena` is the largest over all machine models; the other fields leave out padding."""

    arena: int  # activations, their gradients, scratch
    parameters: int
    gradients: int  # one copy a shard
    slots: int  # slots of the optimizer, gradients accumulated over several steps, averages and slow weights
    images: int  # the images of a batch, one byte for each number

    @property
    def total(self) -> int:
        """The bytes of the whole plan."""
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
    graph, loss = join_outputs(graph, loss, mode)
    graph = optimise(graph, PASSES[mode] if choices.passes is None else choices.passes)
    partition = divide(graph, batch, mode, choices)
    common, shards = layouts(graph, partition, mode, dtype, loss, reuse=choices.reuse_memory)
    return common.size + sum(layout.size for layout in shards)


def training_footprint(graph: Graph, batch: int, train: TrainSettings) -> Footprint:
    """The memory that training takes at a batch size."""
    parameters = FLOAT * graph.parameter_count
    return Footprint(
        arena=_largest_arena(graph, batch, "train", train.loss),
        parameters=parameters,
        gradients=parameters * len(shards_of(batch)),
        slots=parameters * train.slots,
        images=batch * prod(graph.input_shape),
    )


def inference_footprint(graph: Graph, batch: int, train: TrainSettings | None = None) -> Footprint:
    """The memory that inference takes at a batch size, with the loss that an evaluation needs if `train` is given."""
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
