"""Class weights of losses: a list, a mapping from names, or `balanced`."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, Self

import numpy as np

from cnnspec.fields import Named, Schema
from cnnspec.kernels.step import Array
from cnnspec.optim.losses.base import Loss
from cnnspec.shapes import Shape, ShapeError
from cnnspec.target import KINDS, VOID, Target


class NamedWeights(Named[float]):
    """Weights by the names of classes; a class without one has weight 1."""


def _class_weights(value: Any) -> Any:
    if value == "balanced":
        return value
    named = isinstance(value, Mapping)
    weights = [float(weight) for weight in (value.values() if named else value)]
    if not all(0 <= weight < inf for weight in weights) or not (any(weights) or (named and weights)):
        raise ValueError(f"class_weights: expected numbers of at least 0, one of them above 0, got {weights}")
    return NamedWeights(zip(map(str, value), weights, strict=True)) if named else tuple(weights)


ClassWeights = Annotated[
    tuple[float, ...] | NamedWeights | Literal["balanced"],
    Schema(
        {
            "anyOf": [
                {"enum": ["balanced"]},
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0},
                    "minItems": 1,
                    "contains": {"type": "number", "exclusiveMinimum": 0},
                },
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}, "minProperties": 1},
            ]
        },
        _class_weights,
    ),
]


class Weighted(Loss):
    """Base of losses in which classes may count more or less than others.

    With class weights c an image or pixel of class k counts c_k times; the mean still is over all. Where an image has
    any number of classes, its yes to class k counts c_k times. Weights that are `balanced` are n / (K n_k) for K
    classes that come n_k times among n training images or pixels; of any number of classes each has two, no and yes.
    """

    class_weights: Annotated[
        ClassWeights | None, "how much each class counts: a list, a mapping from names, or balanced"
    ] = None

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """Raise ShapeError if the output or the weights do not fit: in number, by name, or as there are no classes."""
        super().check(output, target, given)
        self.check_weights(output, target)

    def check_weights(self, output: Shape, target: Target) -> None:
        """Raise ShapeError if the weights do not fit the target."""
        if self.class_weights is None:
            return
        if target.kind in ("values", "input"):
            raise ShapeError(
                f"class_weights: the target is {KINDS[target.kind]}, which has no classes", help="leave them out"
            )
        count = self._count(target, output[0])
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != count:
            each = "output" if count == output[0] else "class"
            raise ShapeError(
                f"expected {count} class_weights, one for each {each}, got {len(self.class_weights)}",
                help="give one number for each class, in the order of the classes",
            )
        if self.class_weights == "balanced" and target.kind == "shares":
            raise ShapeError(
                "class_weights: balanced needs images of one class each, got probabilities", help="give a list"
            )
        if isinstance(self.class_weights, NamedWeights) and target.names:
            for name in self.class_weights:
                if name not in target.names:
                    raise ShapeError(
                        f"class_weights: '{name}' is no class of the data",
                        help=f"name some of {', '.join(target.names[:12])}",
                    )

    def fitted(self, target: Target, outputs: int) -> Self:
        """Replace weights by name or balanced ones by a list of numbers, one for each class; 1 if nothing is known.

        For images with any number of classes the list has the weights of "no" for all classes, then those of "yes".
        """
        count, several = self._count(target, outputs), target.kind == "classes"
        if self.class_weights is None or (several and len(self.class_weights) == 2 * count):
            return self
        never = [1.0] * count
        if isinstance(self.class_weights, tuple):
            weights = list(self.class_weights)
        elif isinstance(self.class_weights, NamedWeights):
            weights = [self.class_weights.get(name, 1.0) for name in target.names]
        elif several:
            never = [_balanced(target.images, 2, target.images - number) for number in target.counts]
            weights = [_balanced(target.images, 2, number) for number in target.counts]
        else:
            weights = [_balanced(sum(target.counts), len(target.counts), number) for number in target.counts]
        weights, never = (part + [1.0] * (count - len(part)) for part in (weights, never))
        return self.but(class_weights=tuple(never + weights if several else weights))

    def _count(self, target: Target, outputs: int) -> int:
        """The number of classes: one output may serve two."""
        return 2 if self.one_output and outputs == 1 and target.kind in ("class", "mask") else outputs

    def mean_weight(self, labels: Array) -> float:
        """The mean weight of these labels (n, ...); 1 as long as the weights are not numbers."""
        if not isinstance(self.class_weights, tuple):
            return 1.0
        weights = np.array(self.class_weights)
        if labels.dtype.kind in "iu":
            return float(weights[labels[labels != VOID] if labels.ndim == 3 else labels].mean())
        if len(weights) == 2 * labels.shape[1]:
            absent, present = weights.reshape(2, -1)
            return float((absent + (present - absent) * labels).mean())
        return float((labels @ weights).mean())


def _balanced(total: int, classes: int, count: int) -> float:
    return total / (classes * count) if count else 1.0
