"""The kernels that a plan chooses for its convolutions, their alternatives, and the layers that it cuts by rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from cnnspec.graph import Graph
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.kernels.cost import candidates, choose, nanoseconds
from cnnspec.kernels.kernel import Kernel
from cnnspec.kernels.problem import Problem
from cnnspec.layers.base import Mode
from cnnspec.plan.schedule.partition import differentiated, divide, shards_of
from cnnspec.shapes import text


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The kernel that a plan chooses for one direction of one convolution."""

    layer: str
    direction: str  # forward, input or weight
    kernel: str
    microseconds: float  # predicted, for all images of the batch on one thread
    tile: str  # the largest scratch array of the kernel; empty if it reads the map itself
    others: tuple[tuple[str, float], ...]  # the kernels that were not chosen, and their prices, the lowest first


def explain_kernels(graph: Graph, batch: int, mode: Mode) -> Iterator[KernelChoice]:
    """The choice for every convolution of the plan for a batch size, in each direction that is computed."""
    n, graph = shards_of(batch)[0], optimise(graph, PASSES[mode])
    wanted = differentiated(graph)
    for node in graph.nodes:
        problem = node.layer.convolution(*node.input_shapes)
        if problem is None:
            continue
        pinned = getattr(node.layer, "kernel", None)
        for direction, kernel in choose(problem, n, mode, pinned).items():
            if direction == "input" and node.inputs[0] not in wanted:
                continue
            price = nanoseconds(kernel, problem, n) * batch / 1000
            prices: dict[str, float] = {}
            for other in candidates(direction, problem, n):  # of several forms of a kernel the cheapest
                if other.name != kernel.name:
                    prices.setdefault(other.name, nanoseconds(other, problem, n) * batch / 1000)
            yield KernelChoice(
                node.name, direction, kernel.name, price, _tile(kernel, problem, n), tuple(prices.items())
            )


def explain_stages(graph: Graph, batch: int, mode: Mode) -> list[dict[str, tuple[int, ...]]]:
    """The stages of a batch of one shard: how many rows of each layer its parts have; none for an undivided layer."""
    return [
        {
            node.name: tuple(part.rows.stop - part.rows.start for part in stage.parts.get(node.name, ()))
            for node in stage.nodes
        }
        for stage in divide(optimise(graph, PASSES[mode]), batch, mode).stages
    ]


def _tile(kernel: Kernel, problem: Problem, n: int) -> str:
    scratch = kernel.scratch(problem, n).items()
    working = [(name, b.shape) for name, b in scratch if b.lifetime not in ("prepare", "kept")]
    name, shape = max(working, key=lambda entry: prod(entry[1]), default=("", ()))
    return f"{name} {text(shape)}" if name else ""
