"""The error, before anything is allocated, if a network or its training needs more memory than this machine has."""

from __future__ import annotations

from cnnspec.graph import Graph
from cnnspec.memory import require_memory
from cnnspec.optim.settings import TrainSettings
from cnnspec.plan.memory.footprint import FLOAT, training_footprint


def require_training_memory(graph: Graph, train: TrainSettings) -> None:
    """Raise RunError if training needs more memory than the machine has; the message says which settings to lower."""
    require_parameter_memory(graph, 2 + train.slots)
    footprint = training_footprint(graph, train.batch_size, train)
    copies = footprint.total - footprint.arena - footprint.images
    cure = _fewer_parameters(graph) if copies > footprint.arena else f"lower train.batch_size ({train.batch_size})"
    require_memory(footprint.total, f"training at batch {train.batch_size}", cure)


def require_parameter_memory(graph: Graph, copies: int, itemsize: int = FLOAT) -> None:
    """Raise RunError if this many copies of the parameters need more memory than the machine has."""
    needed = graph.parameter_count * itemsize * copies
    require_memory(needed, f"a network of {graph.parameter_count:,} parameters", _fewer_parameters(graph))


def _fewer_parameters(graph: Graph) -> str:
    largest = max(graph.nodes, key=lambda node: node.parameter_count)
    return (
        f"make {largest.name} smaller: it has {largest.parameter_count:,} of the {graph.parameter_count:,} parameters"
    )
