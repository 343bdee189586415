"""Lints: specs that compile and train, and still are not what their author meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph.findings import at, readers, warning
from cnnspec.graph.habits import HABITS
from cnnspec.graph.node import Graph, Node
from cnnspec.shapes import Windows
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry, Spec

Lint = Callable[[Spec, Graph], Iterator[Diagnostic]]


def lint(spec: Spec, graph: Graph) -> tuple[Diagnostic, ...]:
    """The warnings about a graph that is right, sorted by place; those of one block are told once."""
    found = {(d.code, d.span): d for check in LINTS for d in check(spec, graph)}
    return tuple(sorted(found.values(), key=lambda d: d.span))


def bias_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A bias that batch_norm takes away again."""
    reads = readers(graph)
    for node in graph.nodes:
        if "bias" in node.params and node.params.keys() == {"weight", "bias"} and len(reads[node.name]) == 1:
            (reader,) = reads[node.name]
            if reader.layer.type_name == "batch_norm" and node.layer.type_name != "batch_norm":
                yield from at(
                    node, "bias-before-norm", "its bias has no effect before batch_norm", "write bias: none", "bias"
                )


def softmax_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Two softmaxes in a row, the second one inside the loss."""
    loss = spec.train.loss.type_name if spec.train else None
    if loss == "softmax_cross_entropy" and graph.output.layer.type_name == "softmax":
        message, help = "softmax_cross_entropy has a softmax in it", "remove this layer"
        yield from at(graph.output, "softmax-before-loss", message, help)


def dropout_after_output(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Dropout that erases class scores."""
    if graph.output.layer.train_only:
        message, help = "drops the network's outputs", "put it before the last dense layer"
        yield from at(graph.output, "dropout-after-output", message, help)


def windows_over(node: Node) -> Windows | None:
    """How a layer's windows lie over its input, where it has windows."""
    laid = getattr(node.layer, "windows", None)
    return laid(node.input_shapes[0]) if callable(laid) else None


def rows_dropped(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Rows or columns at the map's end, and not of its padding, that no window reaches."""
    for node in graph.nodes:
        laid = windows_over(node)
        # Windows smaller than their stride leave places out on purpose.
        if laid is None or laid.extent < laid.stride:
            continue
        dropped = [
            max(0, laid.padded[axis] - laid.extent[axis] - (laid.output[axis] - 1) * laid.stride[axis] - after)
            for axis, after in ((0, laid.padding[1]), (1, laid.padding[3]))
        ]
        if any(dropped):
            counts = [f"{n} {what}{'s' * (n > 1)}" for n, what in zip(dropped, ("row", "column"), strict=True) if n]
            message = f"leaves out {' and '.join(counts)} of its {laid.height}x{laid.width} input"
            yield from at(
                node, "rows-dropped", message, "use padding: same, or another kernel_size or stride", "stride"
            )


def window_covers_map(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Pooling that is global pooling."""
    for node in graph.nodes:
        laid = windows_over(node)
        if laid and not node.params and laid.kernel == (laid.height, laid.width) and laid.kernel != (1, 1):
            message = f"its window covers the whole {laid.height}x{laid.width} map"
            name = "global_max_pool2d" if node.layer.selects_maximum else "global_avg_pool2d"
            yield from at(node, "window-covers-map", message, f"use {name}", "kernel_size")


def training(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """What does not fit together in the train section."""
    if spec.train is None:
        return
    place = spec.sections.get("train", spec.place)
    batch, epochs, schedule = spec.train.batch_size, spec.train.epochs, spec.train.schedule
    if batch == 1 and any(node.layer.type_name == "batch_norm" for node in graph.nodes):
        message = "batch_size 1 leaves batch_norm one image to take statistics of"
        yield warning("batch-of-one", message, place.of("batch_size"), place, "use a batch_size of 8 or more")
    images = spec.data.source.counts.get("train") if spec.data else None
    if spec.data and spec.data.train.limit:
        images = min(images or spec.data.train.limit, spec.data.train.limit)
    if images is not None and batch > images:
        message = f"batch_size {batch:,} is more than the {images:,} training images"
        help = f"use a batch_size up to {images}"
        yield warning("batch-larger-than-data", message, place.of("batch_size"), place, help)
    stopping = spec.train.early_stopping
    if stopping is not None and stopping.patience >= epochs:
        message = f"a patience of {stopping.patience} epochs never ends a training of {epochs}"
        where = spec.sections.get("train.early_stopping", place)
        yield warning("patience-too-long", message, where.of("patience"), where, "shorten the patience")
    if schedule.warmup >= epochs:
        message = f"a warm-up of {schedule.warmup:g} epochs takes all {epochs} epochs"
        yield warning("warmup-too-long", message, place.of("schedule"), place, "shorten the warm-up")
    for key in ("every", "milestones", "restarts", "patience"):
        first = getattr(schedule, key, None)
        first = min(first, default=None) if isinstance(first, tuple) else first
        if first is not None and first >= epochs > 1:
            message = f"{schedule.type_name}: {key} {first} lies behind the training, which ends after {epochs} epochs"
            yield warning("schedule-never-falls", message, place.of("schedule"), place, f"shorten `{key}`")


def unused_ids(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Ids that nothing refers to; the last layer's names the output."""
    entries = list(_all(spec.layers))
    read = {name for entry in entries for name in entry.inputs or ()}
    read |= {entry.share for entry in entries if isinstance(entry, LayerEntry) and entry.share}
    # an id in a block is of use where one instance of the block is referred into
    written = {entry.place.of("id") for entry in entries if entry.name in read}
    for entry in entries:
        named = isinstance(entry, LayerEntry) and entry.named and entry is not spec.layers[-1]
        if named and entry.name not in read and entry.place.of("id") not in written:
            message = f"nothing refers to the id '{entry.name}'"
            yield warning("unused-id", message, entry.place.of("id"), entry.place, "remove the id, or refer to it")


def _all(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        match entry:
            case ResidualEntry() | BlockEntry():
                yield from _all(entry.body)
            case ParallelEntry():
                for branch in entry.branches:
                    yield from _all(branch)


LINTS: tuple[Lint, ...] = (
    bias_before_norm,
    softmax_before_loss,
    dropout_after_output,
    rows_dropped,
    window_covers_map,
    training,
    unused_ids,
    *HABITS,
)
