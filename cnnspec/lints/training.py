"""Settings of the train section that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import warning
from cnnspec.spec.model import Spec

HIGHEST_ADAPTIVE_RATE = 0.1  # of optimizers that divide the gradient by its size
HIGHEST_RATE = 10.0  # of all others: large batches are trained by sgd at rates of up to about 3


def learning_rate(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a learning rate at which training diverges, such as one for sgd given to adam."""
    if spec.train is None:
        return
    optimizer = spec.train.optimizer
    if optimizer.learning_rate < (HIGHEST_ADAPTIVE_RATE if optimizer.adaptive else HIGHEST_RATE):
        return
    place = spec.sections.get("train.optimizer", spec.sections.get("train", spec.place))
    if optimizer.adaptive:
        message = f"{optimizer.type_name} moves every weight by about {optimizer.learning_rate:g} a step"
    else:
        message = f"{optimizer.type_name} diverges at a learning rate of {optimizer.learning_rate:g}"
    help = f"start with {type(optimizer).learning_rate:g}"
    yield warning("learning-rate-too-high", message, place.of("learning_rate"), place, help)


def batch_size(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a batch too small for its statistics, or larger than the data set."""
    if spec.train is None:
        return
    place, batch = spec.sections.get("train", spec.place), spec.train.batch_size
    norm = next((node.layer for node in graph.nodes if node.layer.batch_statistics), None)
    if batch == 1 and norm is not None:
        message = f"batch_size 1 leaves {norm.type_name} one image to take statistics of"
        yield warning("batch-of-one", message, place.of("batch_size"), place, "use a batch_size of 8 or more")
    images = spec.data.source.counts.get("train") if spec.data else None
    if spec.data and spec.data.train.limit:
        images = min(images or spec.data.train.limit, spec.data.train.limit)
    if images is not None and batch > images:
        message = f"batch_size {batch:,} is more than the {images:,} training images"
        help = f"use a batch_size up to {images}"
        yield warning("batch-larger-than-data", message, place.of("batch_size"), place, help)


def duration(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of what comes only after the last epoch: a warm-up's end, an early stop, a fall of the rate, a halving."""
    if spec.train is None:
        return
    place = spec.sections.get("train", spec.place)
    epochs, schedule, stopping = spec.train.epochs, spec.train.schedule, spec.train.early_stopping
    if stopping is not None and stopping.patience >= epochs:
        message = f"a patience of {stopping.patience} epochs never ends a training of {epochs}"
        where = spec.sections.get("train.early_stopping", place)
        yield warning("patience-too-long", message, where.of("patience"), where, "shorten the patience")
    if schedule.warmup >= epochs:
        message = f"a warm-up of {schedule.warmup:g} epochs takes all {epochs} epochs"
        yield warning("warmup-too-long", message, place.of("schedule"), place, "shorten the warm-up")
    halving = spec.sweep.halving if spec.sweep is not None else None
    if halving is not None and halving.first >= epochs:
        message = f"points are compared after {halving.first} epochs, and a training ends after {epochs:g}"
        where = spec.sections["sweep.halving"]
        yield warning("halving-too-late", message, where.of("first"), where, "let first be less than train.epochs")
    gamma = getattr(schedule, "gamma", 0)
    if gamma >= 1:
        message = f"{schedule.type_name}: gamma {gamma:g} {'raises' if gamma > 1 else 'never lowers'} the learning rate"
        yield warning("schedule-never-falls", message, place.of("schedule"), place, "let `gamma` be less than 1")
    for key in ("every", "milestones", "restarts", "patience"):
        first = getattr(schedule, key, None)
        first = min(first, default=None) if isinstance(first, tuple) else first
        if first is not None and first >= epochs > 1:
            message = f"{schedule.type_name}: {key} {first} lies behind the training, which ends after {epochs} epochs"
            yield warning("schedule-never-falls", message, place.of("schedule"), place, f"shorten `{key}`")
