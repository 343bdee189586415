"""The division of a batch: into shards of its images or, if it is one shard, into rows of each layer's map.

Both follow from the graph and the batch size alone, never from the number of workers or of ranks, so that any number of
them computes the same bits. Each rank has neighbouring shards, and all have as equal numbers of them as possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Protocol, cast

from cnnspec.graph import Graph, Node
from cnnspec.kernels.cost import choose
from cnnspec.kernels.step import Array, Buffer, Lifetime
from cnnspec.layers.base import Layer, Mode, Operands, batch_shape
from cnnspec.plan.choices import BEST, Choices
from cnnspec.plan.state.parameters import LARGE
from cnnspec.shapes import Shape, ShapeError, Windows, size

SHARD = 32  # images: smaller shards make more calls of NumPy than they gain in cache hits
FEWEST_OF_TWO_SHARDS = 32  # images: a smaller batch is one shard
PARTS = 2  # the number of parts that rows are divided into
LEAST_WORK = 5_000  # nanoseconds: dividing a faster layer gains less than a barrier and twice the calls cost
NANOSECONDS_A_MAC, NANOSECONDS_AN_ELEMENT = 0.0255, 0.2  # of one worker; not measured, as the division must not vary


def shards_of(batch: int) -> tuple[int, ...]:
    """The sizes of a batch's shards: about 32 images each, and at least 16."""
    count = 1 if batch < FEWEST_OF_TWO_SHARDS else max(2, batch // SHARD)
    return tuple(batch * (i + 1) // count - batch * i // count for i in range(count))


def ranks_of(shards: int, ranks: int) -> tuple[range, ...]:
    """The shards of each rank; with fewer shards than ranks one range of all, which every rank computes."""
    if shards < ranks:
        return (range(shards),)
    return tuple(range(shards * r // ranks, shards * (r + 1) // ranks) for r in range(ranks))


def images_of_ranks(batch: int, ranks: int) -> tuple[slice, ...]:
    """The images of a batch that each rank computes: those of its shards, or all of them."""
    sizes = shards_of(batch)
    ends = [0, *accumulate(sizes)]
    images = tuple(slice(ends[shards.start], ends[shards.stop]) for shards in ranks_of(len(sizes), ranks))
    return images if len(images) == ranks else images * ranks


@dataclass(frozen=True)
class Partition:
    """How the work of one plan is divided."""

    batch: int  # images of all shards together
    shards: tuple[int, ...]  # images of each shard that this rank computes
    images: slice  # the place of these images in the batch
    ranks: tuple[range, ...]  # the shards of each rank; one range of all where ranks divide nothing
    first_shard: int  # the number of this rank's first shard
    stages: tuple[Stage, ...]  # of a forward pass by rows; empty if every node is computed whole
    differentiated: frozenset[str]  # the values that gradients are computed for
    deferred: frozenset[str]  # the nodes whose parameters' gradients wait in the work queue
    batch_gradients: Mapping[str, tuple[str, ...]]  # the parameters whose gradient all shards make together, by node
    tied: Mapping[str, str]  # each node with tied parameters to the one of its group whose gradient is made last


def divide(
    graph: Graph, batch: int, mode: Mode, choices: Choices = BEST, *, rank: int = 0, ranks: int = 1
) -> Partition:
    """Divide the work of a batch; `graph` is the graph after the passes of the mode."""
    sizes = shards_of(batch)
    of_ranks = ranks_of(len(sizes), ranks)
    own_shards = of_ranks[rank if len(of_ranks) > 1 else 0]
    single, training = len(sizes) == 1, mode == "train"
    with_gradient = differentiated(graph) if training else frozenset[str]()
    learning = [node for node in graph.nodes if node.name in with_gradient and node.params and node.trainable]
    tied = _tied(learning) if training else {}
    untied = [node for node in learning if node.name not in tied]
    return Partition(
        batch=batch,
        shards=sizes[own_shards.start : own_shards.stop],
        images=images_of_ranks(batch, ranks)[rank],
        ranks=of_ranks,
        first_shard=own_shards.start,
        stages=tuple(stages(graph, batch, mode)) if single and choices.divide_rows else (),
        differentiated=with_gradient,
        deferred=frozenset(node.name for node in untied if single and choices.defer_gradients),
        batch_gradients={
            node.name: large
            for node in untied
            if not single and choices.batch_gradients and node.layer.row_reads == "units"
            if (large := _batch_gradient_parameters(node, batch))
        },
        tied=tied,
    )


def differentiated(graph: Graph) -> frozenset[str]:
    """The names of the nodes whose output depends on a trained parameter: a gradient is computed for these outputs."""
    names: set[str] = set()
    for node in graph.nodes:
        if (node.params and node.trainable) or names.intersection(node.inputs):
            names.add(node.name)
    return frozenset(names)


def _batch_gradient_parameters(node: Node, batch: int) -> tuple[str, ...]:
    """The large parameters of a dense layer whose gradient is made for all images at once; none for a large batch.

    Ranks exchange x and dy of the batch for such a product, otherwise the sums of gradients, which travel twice: the
    product is made if x and dy have at most twice as many elements as the gradient.
    """
    large = {name: size(p.shape) for name, p in node.params.items() if size(p.shape) >= LARGE}
    elements = size(node.input_shapes[0]) + size(node.shape)
    return tuple(large) if batch * elements <= 2 * sum(large.values()) else ()


def _tied(learning: Sequence[Node]) -> dict[str, str]:
    """Map each node of tied parameters to its group's first node, whose gradient is made last in the backward pass."""
    groups: dict[str, list[str]] = {}
    for node in learning:
        groups.setdefault(node.share or node.name, []).append(node.name)
    return {name: names[0] for names in groups.values() if len(names) > 1 for name in names}


@dataclass(frozen=True)
class Part:
    """Some rows of a layer's output (the first axis of its array), and a layer that computes these rows alone.

    That layer reads the rows `reads` of every input, and writes its own rows of the arrays kept for the backward pass.
    With `own_params` it uses its own rows of the whole layer's parameters; otherwise it uses all of them.
    """

    rows: slice
    layer: Layer
    reads: slice
    own_params: bool = False

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """The shapes of the rows that it reads of each input."""
        return tuple(_with_rows(shape, self.reads.stop - self.reads.start) for shape in inputs)

    def operands(self, whole: Operands, buffers: Mapping[str, Array]) -> Operands:
        """The arrays of the part's forward pass: views of the whole layer's arrays, and buffers of its own."""
        params = {name: array[self.rows] for name, array in whole.params.items()} if self.own_params else whole.params
        return replace(
            whole,
            inputs=tuple(x[self.reads] for x in whole.inputs),
            output=whole.output[self.rows],
            input_grads=(),
            output_grads=(),
            params=params,
            grads={},
            buffers=buffers,
        )


class Windowed(Protocol):
    """A layer whose rows depend on windows of its input."""

    def windows(self, shape: Shape) -> Windows:
        """Tell how the windows lie over a (c, h, w) input."""


def part_of(layer: Layer, rows: slice, *inputs: Shape, n: int, mode: Mode) -> Part | None:
    """The part of a layer that computes these rows for n images; None if the rows cannot be computed by themselves.

    The part follows from the layer's `row_reads`. It is refused if it differs from the whole layer in more than its
    rows: in its prepared or kept arrays, or in its parameters.
    """
    if mode == "train" and layer.state(*inputs):  # statistics are taken over all rows
        return None
    try:
        part = _declared_part(layer, rows, *inputs, n=n, mode=mode)
        return part if part is not None and _differs_in_rows_alone(layer, part, *inputs, n=n, mode=mode) else None
    except ShapeError:
        return None


def _declared_part(layer: Layer, rows: slice, *inputs: Shape, n: int, mode: Mode) -> Part | None:
    match layer.row_reads:
        case "elementwise":
            return Part(rows, layer, rows) if len({(len(shape), _rows(shape)) for shape in inputs}) == 1 else None
        case "units":
            of_rows = layer.but(units=rows.stop - rows.start)
            return Part(rows, of_rows, slice(0, size(inputs[0])), own_params=True)
        case "windows":
            reads, windows = cast(Windowed, layer).windows(inputs[0]).part(rows)
            changes: dict[str, Any] = {"padding": windows.padding}
            problem = layer.convolution(*inputs)
            if problem is not None:  # the parts take the kernel of the whole map
                kernel = choose(problem, n, mode, getattr(layer, "kernel", None))["forward"]
                if kernel.joint or not hasattr(layer, "kernel"):
                    return None
                changes["kernel"] = kernel.name
            return Part(rows, layer.but(**changes), reads) if windows.height else None
        case None:
            return None


def _differs_in_rows_alone(layer: Layer, part: Part, *inputs: Shape, n: int, mode: Mode) -> bool:
    """Whether a part differs from its layer in the number of rows alone."""
    shapes, count = part.shapes(*inputs), part.rows.stop - part.rows.start
    params = {name: parameter.shape for name, parameter in layer.params(*inputs).items()}
    if part.own_params:
        params = {name: (count, *shape[1:]) for name, shape in params.items()}
    scratch, part_scratch = layer.scratch(*inputs, n=n, mode=mode), part.layer.scratch(*shapes, n=n, mode=mode)
    kept_rows = {
        name: replace(buffer, shape=(count, *buffer.shape[1:]))
        for name, buffer in _of_lifetime(scratch, "kept").items()
    }
    return (
        _rows(part.layer.infer_shape(*shapes)) == count
        and params == {name: parameter.shape for name, parameter in part.layer.params(*shapes).items()}
        and _of_lifetime(part_scratch, "kept") == kept_rows
        # A part gets a whole prepared array; if all rows of that are alike, the part itself asks for fewer of them.
        and _row_shapes(_of_lifetime(part_scratch, "prepare")) == _row_shapes(_of_lifetime(scratch, "prepare"))
    )


def _of_lifetime(scratch: Mapping[str, Buffer], lifetime: Lifetime) -> dict[str, Buffer]:
    """The buffers of one lifetime."""
    return {name: buffer for name, buffer in scratch.items() if buffer.lifetime == lifetime}


def _row_shapes(scratch: Mapping[str, Buffer]) -> dict[str, Shape]:
    return {name: buffer.shape[1:] for name, buffer in scratch.items()}


def _rows(shape: Shape) -> int:
    return batch_shape(shape, 1)[0]


def _with_rows(shape: Shape, rows: int) -> Shape:
    return (shape[0], rows, shape[2]) if len(shape) == 3 else (rows,)


@dataclass
class Stage:
    """Nodes that are computed between two barriers: each in parts, one for each worker, or all nodes by one worker."""

    nodes: list[Node]
    parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)

    def admits(self, node: Node, parts: Sequence[Part]) -> bool:
        """Whether no part of a node reads rows that another worker computes in this stage: then it needs no barrier."""
        parts_of_inputs = [self.parts[name] for name in node.inputs if name in self.parts]
        return all(
            source.rows.start <= part.reads.start and part.reads.stop <= source.rows.stop
            for sources in parts_of_inputs
            for source, part in zip(sources, parts, strict=True)
        )


def stages(graph: Graph, n: int, mode: Mode) -> list[Stage]:
    """The stages of the forward pass of n images in one shard: the layers computed by rows, and the barriers.

    A layer joins the stage before it if its parts can be chosen so that each reads only rows of the same worker.
    """
    result: list[Stage] = []
    for node in graph.nodes:
        last = result[-1] if result else None
        if last is not None and last.parts:
            joined = next((parts for parts in _divisions(node, n, mode) if last.admits(node, parts)), None)
            if joined is not None:
                last.nodes.append(node)
                last.parts[node.name] = joined
                continue
        parts = next(_divisions(node, n, mode), None) if _nanoseconds(node, n) >= LEAST_WORK else None
        if parts is not None:
            result.append(Stage([node], {node.name: parts}))
        elif last is not None and not last.parts:
            last.nodes.append(node)
        else:
            result.append(Stage([node]))
    return result


def _divisions(node: Node, n: int, mode: Mode) -> Iterator[tuple[Part, ...]]:
    """Ways to divide a node's rows in two, the most even ones first."""
    count = _rows(node.shape) if node.layer.row_reads else 0
    for distance in range(count // 4 + 1):
        for first in sorted({count // 2 - distance, -(-count // 2) + distance}):
            if 0 < first < count:
                rows = slice(0, first), slice(first, count)
                parts = [part_of(node.layer, part, *node.input_shapes, n=n, mode=mode) for part in rows]
                possible = tuple(part for part in parts if part is not None)
                if len(possible) == PARTS:
                    yield possible


def _nanoseconds(node: Node, n: int) -> float:
    """The estimated time of one worker for a node: for its products, and for the elements that it reads and writes."""
    moved = sum(size(shape) for shape in (*node.input_shapes, node.shape)) * n + node.parameter_count
    return node.macs * n * NANOSECONDS_A_MAC + moved * NANOSECONDS_AN_ELEMENT
