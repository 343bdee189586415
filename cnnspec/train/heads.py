"""The joined output of a network with several losses, taken apart: outputs, labels and scores of each loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cnnspec.graph import Graph
from cnnspec.graph.joining import join_outputs, loss_errors
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss, Losses
from cnnspec.optim.losses.combined import Part, output_losses
from cnnspec.shapes import Shape, ShapeError
from cnnspec.target import Target
from cnnspec.train.score import Tally


class Heads:
    """The losses that an evaluation computes, and the places of their values in a plan's output (n, k)."""

    def __init__(self, graph: Graph, losses: Losses, target: Target) -> None:
        together, placed = join_outputs(graph, losses.fitted(target, 0), "infer")
        assert isinstance(placed, Losses)
        self.losses, self.main = placed, placed.main
        self.shape: Shape = together.output.shape
        self.parts: Mapping[str, Part] = placed.parts()
        self.columns = placed.columns() if target.kind == "several" else {}
        self.output_names = [name for name in self.parts if name in output_losses(placed.terms)]

    def outputs(self, found: Array) -> dict[str, Array]:
        """The outputs (n, ...) of the network by name, from a plan's output; values are in the data's units."""
        return {name: self.parts[name].target.unscaled(self.parts[name].outputs(found)) for name in self.output_names}

    def answer(self, found: Array) -> Array:
        """The main output (n, ...), from a plan's output."""
        return self.parts[self.main].outputs(found)

    def labels(self, name: str, labels: Array) -> Array:
        """The labels of one loss, from the joined labels (n, ...) of all targets."""
        if name not in self.columns:
            return labels
        part_labels = labels[:, self.columns[name]]
        return part_labels[:, 0].astype(np.int64) if self.parts[name].target.kind == "class" else part_labels

    def tallies(self, k: int) -> dict[str, Tally]:
        """An empty tally for each loss."""
        return {name: Tally(part.target.kind, part.shape[0], k) for name, part in self.parts.items()}

    def add(
        self, tallies: Mapping[str, Tally], start: int, found: Array, losses: Mapping[str, Array], labels: Array
    ) -> None:
        """Add the images from `start` on to tallies: a plan's output (n, k), losses (n,) by name, labels (n, ...)."""
        for name, tally in tallies.items():
            part = self.parts[name]
            output = part.outputs(found)
            tally.add(
                start, losses[name], self.labels(name, labels), decided(part, output), part.target.unscaled(output)
            )


def decided(part: Part, output: Array) -> Array | None:
    """The class of each image (n,) or pixel (n, h, w), or whether each label applies (n, k); None for other targets."""
    if part.target.kind == "classes":
        return np.asarray(output > part.loss.threshold)
    if part.target.kind not in ("class", "shares", "mask"):
        return None
    if output.shape[1] == 1:
        return np.asarray(output[:, 0] > part.loss.threshold, np.int64)
    return np.asarray(output.argmax(axis=1))


def check_fit(graph: Graph, loss: Loss, target: Target) -> None:
    """Raise ShapeError if a network's losses do not fit its data; it may have outputs for classes without images."""
    if isinstance(loss, Losses):
        for name, _, error in loss_errors(graph, loss, target, graph.input_shape, spare=True):
            raise ShapeError(f"losses.{name}: {error}", help=error.help)
        return
    output = graph.output.shape
    spare = target.kind == "class" and len(target.names) < output[0]
    loss.check(output, replace(target, names=()) if spare else target, graph.input_shape)
