"""Figures of the train section that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import warning
from cnnspec.spec.model import Spec

ADAPTIVE = ("adam", "adamw", "rmsprop", "lion")  # whose step is about the rate itself, whatever the gradient
HIGHEST_RATE = 0.1


def learning_rate(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A rate that suits sgd, on an optimizer that divides the gradient by its size."""
    if spec.train is None:
        return
    optimizer = spec.train.optimizer
    if optimizer.type_name in ADAPTIVE and optimizer.learning_rate >= HIGHEST_RATE:
        place = spec.sections.get("train.optimizer", spec.sections.get("train", spec.place))
        message = f"{optimizer.type_name} moves every weight by about {optimizer.learning_rate:g} a step"
        yield warning("learning-rate-too-high", message, place.of("learning_rate"), place, "start with 0.001")


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
