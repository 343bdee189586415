"""Warnings about specs that compile and train, but may not do what their author meant; one file for each topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints import data, normalization, redundant, scores, training, windows
from cnnspec.spec.model import Spec

Lint = Callable[[Spec, Graph], Iterator[Diagnostic]]


def lint(spec: Spec, graph: Graph) -> tuple[Diagnostic, ...]:
    """Return the warnings about a graph that is right, sorted by place; a mistake in a block is reported once."""
    diagnostics = {(d.code, d.span): d for check in LINTS for d in check(spec, graph)}
    return tuple(sorted(diagnostics.values(), key=lambda d: d.span))


LINTS: tuple[Lint, ...] = (
    normalization.bias_before_norm,
    scores.softmax_before_loss,
    scores.dropout_after_output,
    windows.rows_dropped,
    windows.window_covers_map,
    training.batch_size,
    training.duration,
    redundant.unused_ids,
    scores.activation_before_loss,
    scores.single_class,
    training.learning_rate,
    redundant.dead_layers,
    redundant.linear_chains,
    redundant.no_effect,
    normalization.dropout_before_norm,
    normalization.reversed_momentum,
    windows.even_kernels,
    data.scales,
    data.augmentations,
)
