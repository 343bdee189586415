"""Several losses at once: their weighted sum, on values that lie side by side in one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from cnnspec.fields import Declaration, Named, NonNegativeNumber, Registered, Schema
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.optim.losses.base import Loss, batch_shape
from cnnspec.shapes import Shape, size
from cnnspec.target import CLASS, Target

_TEXT = {"type": "string"}
Layers = Annotated[
    tuple[str, ...],
    Schema(
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
        lambda value: (value,) if isinstance(value, str) else tuple(value),
    ),
]


class Term(Declaration):
    """One of several losses: the layer that it reads, the target that it is compared with, and its weight."""

    kind: ClassVar[str] = "section"
    layer: Annotated[Layers | None, "the layer that it reads, or a list; the one with the loss's name by default"] = (
        None
    )
    loss: Annotated[Any, Registered("loss"), "what is minimised"] = "softmax_cross_entropy"
    weight: Annotated[NonNegativeNumber, "what it is multiplied by in the sum"] = 1.0
    target: Annotated[
        str | None, "which target of the data it learns, where these have names; that of the loss's name by default"
    ] = None
    training_only: Annotated[bool, "layers that only it reads are left out when the network is used"] = False


def evaluated(terms: Mapping[str, Term]) -> dict[str, Term]:
    """The losses that an evaluation computes too."""
    return {name: term for name, term in terms.items() if not term.training_only}


def output_losses(terms: Mapping[str, Term]) -> dict[str, Term]:
    """The losses whose layers are outputs of the network: they have a target, and are not for training only."""
    return {name: term for name, term in evaluated(terms).items() if "none" not in term.loss.targets}


def target_of(name: str, term: Term, target: Target) -> Target:
    """The target that a loss compares its layer with: a part of the data's target, the input, or none."""
    if not term.loss.reads_labels:
        return Target("input" if term.loss.reads_input else "none")
    return target.parts.get(term.target or name, target)


@dataclass(frozen=True)
class Part:
    """One loss of the sum, and the rows of the joined vector that it reads."""

    loss: Loss
    weight: float
    shape: Shape  # of the value that it reads; of several values side by side, a vector's
    target: Target
    rows: slice
    compared: slice  # rows of the input, if that is the target

    def of(self, joined: Array) -> Array:
        """The loss's own rows of a joined array (rows, n) of values or of gradients, in the shape of its value."""
        return joined[self.rows].reshape(batch_shape(self.shape, joined.shape[-1]))

    def outputs(self, joined: Array) -> Array:
        """The loss's own values in outputs (n, rows), images first."""
        outputs = np.moveaxis(self.of(joined.T), -1, 0)
        return outputs.transpose(0, 2, 1, 3) if outputs.ndim == 4 else outputs


class Losses(Loss):
    """L = sum_i w_i L_i over losses by name. `shapes`, those of the values that each loss reads, are set for a plan.

    The main loss is the first that learns labels and is not for training only, otherwise the first that has a target.
    Its layer is the network's output wherever a single one is needed.
    """

    type_name = "losses"
    terms: Annotated[Named[Term], "by name"]
    shapes: Annotated[Any, Schema({})] = None  # of the values that each loss in the plan reads
    outputs: Annotated[Any, Schema({})] = (
        None  # the length of the first axis of the value that each loss reads, in the plan or not
    )
    target: Annotated[Any, Schema({})] = CLASS

    @property
    def main(self) -> str:
        """The name of the main loss."""
        names = output_losses(self.terms) or self.terms
        return next((name for name, term in names.items() if term.loss.reads_labels), next(iter(names)))

    @property
    def applies(self) -> Literal["softmax", "sigmoid"] | None:  # type: ignore[override]
        """The function that turns outputs of the main loss into probabilities."""
        function: Literal["softmax", "sigmoid"] | None = self.terms[self.main].loss.applies
        return function

    @property
    def one_output(self) -> bool:  # type: ignore[override]
        """Whether one output of the main loss can serve two classes."""
        return bool(self.terms[self.main].loss.one_output)

    @property
    def reads_labels(self) -> bool:
        """Whether any of the losses reads labels."""
        return any(term.loss.reads_labels for term in self.terms.values())

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the losses in the plan."""
        return tuple(self.shapes or ())

    def fitted(self, target: Target, outputs: int) -> Self:
        """These losses with the data's target."""
        return self.but(target=target)

    def placed(self, shapes: Mapping[str, tuple[Shape, ...]], outputs: Mapping[str, int]) -> Self:
        """These losses in a plan, with the shapes of the values that they read, in the joined vector's order."""
        return self.but(shapes=dict(shapes), outputs=dict(outputs))

    def parts(self) -> dict[str, Part]:
        """The losses in the plan by name, each with its rows of the joined vector."""
        parts: dict[str, Part] = {}
        start = 0
        for name, shapes in self.shapes.items():
            term: Term = self.terms[name]
            read_shapes = shapes[: term.loss.reads]
            target = target_of(name, term, self.target)
            shape = read_shapes[0] if len(read_shapes) == 1 else (sum(map(size, read_shapes)),)
            end, stop = start + sum(map(size, read_shapes)), start + sum(map(size, shapes))
            loss = term.loss.fitted(target, shape[0])
            parts[name] = Part(loss, term.weight, shape, target, slice(start, end), slice(end, stop))
            start = stop
        return parts

    def outputs_by_target(self) -> dict[str, int]:
        """The number of outputs for each of several targets, by name."""
        terms = reversed(self.terms.items())
        return {term.target or name: self.outputs[name] for name, term in terms if term.loss.reads_labels}

    def widths(self) -> dict[str, int]:
        """How many numbers a label of each of several targets consists of, in the order of the targets."""
        lengths, parts = self.outputs_by_target(), self.target.parts
        return {name: 1 if part.kind == "class" else lengths[name] for name, part in parts.items() if name in lengths}

    def columns(self) -> dict[str, slice]:
        """The place of the labels of each loss in the joined labels of several targets."""
        columns: dict[str, slice] = {}
        stop = 0
        for name, width in self.widths().items():
            start, stop = stop, stop + width
            columns[name] = slice(start, stop)
        return {name: columns[of] for name, term in self.terms.items() if (of := term.target or name) in columns}

    def label_shape(self, target: Target, output: Shape) -> Shape:
        """The shape of an image's label for the main loss; for several targets a vector of all their labels."""
        if target.kind == "several":
            return (sum(self.widths().values()),)
        return target.label_shape(self.parts()[self.main].shape)

    def answer(self, prediction: Array) -> Array:
        """The part of the prediction that the main loss reads."""
        return self.parts()[self.main].of(prediction)

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The scratch arrays of each loss, by its name and theirs."""
        return {
            f"{name}/{key}": buffer
            for name, part in self.parts().items()
            for key, buffer in part.loss.scratch(part.shape, n).items()
        }

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind each loss to its rows; the buffer of a loss's name receives its values (n,) without the weight."""
        columns = self.columns() if self.target.kind == "several" else {}
        bound: list[tuple[float, Step, Array, Array | None]] = []
        for name, part in self.parts().items():
            if part.loss.reads_input:
                wanted = prediction[part.compared].reshape(batch_shape(part.shape, prediction.shape[-1]))
            else:
                wanted = target[columns[name]] if name in columns else target
                wanted = wanted[0] if name in columns and part.target.kind == "class" else wanted
            prefix = f"{name}/"
            part_buffers = {key.removeprefix(prefix): array for key, array in buffers.items() if key.startswith(prefix)}
            slope = None if gradient is None else part.of(gradient)
            step = part.loss.bind(part.of(prediction), wanted, slope, buffers[name], part_buffers, batch)
            bound.append((part.weight, step, buffers[name], slope))

        def weighted() -> None:
            losses.fill(0)
            for weight, step, part_losses, slope in bound:
                step()
                np.add(losses, part_losses if weight == 1 else weight * part_losses, out=losses)
                if slope is not None and weight != 1:
                    np.multiply(slope, weight, out=slope)

        return weighted

    def least(self, labels: Array, classes: int, images: Array | None = None) -> float:
        """The weighted sum of the lowest values of all losses, for labels (n, ...)."""
        columns = self.columns() if self.target.kind == "several" else {}
        total = 0.0
        for name, part in self.parts().items():
            part_labels = labels[:, columns[name]] if name in columns else labels
            part_labels = (
                part_labels[:, 0].astype(np.int64) if name in columns and part.target.kind == "class" else part_labels
            )
            total += part.weight * part.loss.least(part_labels, part.shape[0], images)
        return total

    def probabilities(self, output: Array) -> Array:
        """The probabilities by the main loss."""
        probabilities: Array = self.terms[self.main].loss.probabilities(output)
        return probabilities
