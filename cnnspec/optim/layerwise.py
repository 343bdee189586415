"""Optimizers that update each parameter as a whole, by its length or as a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np

from cnnspec.fields import Fraction, NonNegativeNumber, PositiveInt, PositiveNumber, Registered
from cnnspec.kernels.step import Array, Step
from cnnspec.optim.optimizers import Adam, Optimizer, Update, follow
from cnnspec.registry import register
from cnnspec.shapes import Shape

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the polynomial a s + b s^3 + c s^5, which moves 0 < s <= 1 towards 1


@register("lamb")
class Lamb(Adam):
    """d = adam's direction + decay w; w -= rate |w| / |d| d, for each parameter by itself.

    The ratio of the lengths is 1 where one of them is 0, as at a bias's start. It lets batches of thousands be trained
    at one rate. Source: You et al., "Large batch optimization for deep learning" (2019).
    """

    adaptive: ClassVar[bool] = False  # a parameter moves by a fraction of its own length
    decoupled: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    epsilon: Annotated[PositiveNumber, "added to the root, against division by 0"] = 1e-6
    weight_decay: Annotated[NonNegativeNumber, "how strongly weights shrink towards 0; a layer may set its own"] = 0.01

    def bind(
        self,
        weights: Array,
        gradient: Array,
        slots: Mapping[str, Array],
        scratch: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Bind one update of a parameter."""
        compute, direction = self.direction(gradient, slots, scratch, update.number)
        rate = update.rate

        def step() -> None:
            compute()
            if weight_decay:
                np.multiply(weights, weight_decay, out=gradient)
                np.add(direction, gradient, out=direction)
            lengths = _length(weights), _length(direction)
            ratio = lengths[0] / lengths[1] if all(lengths) else 1.0
            np.multiply(direction, float(rate) * ratio, out=direction)
            np.subtract(weights, direction, out=weights)

        return step


@register("muon")
class Muon(Optimizer):
    """m = momentum m + (1 - momentum) g; w -= rate (scale orthogonal(m) + decay w), for convolutions and dense layers.

    With nesterov orthogonal((1 - momentum) g + momentum m). A weight counts as a matrix (filters, all else), of which
    `steps` of the Newton-Schulz iteration X = a X + b X X^T X + c (X X^T)^2 X, from X = m / |m|, bring all singular
    values to about 1; scale = sqrt(max(1, filters / all else)). Parameters that are no matrices, biases and those of
    normalisation, are left to the optimizer `rest`, which has a rate of its own; the schedule holds for both.
    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """

    decoupled: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    scratch: ClassVar[int] = 2

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.02
    momentum: Annotated[Fraction, "how much of the mean is kept"] = 0.95
    nesterov: Annotated[bool, "look ahead along the momentum"] = True
    steps: Annotated[PositiveInt, "iterations towards the orthogonal matrix"] = 5
    rest: Annotated[Any, Registered("optimizer"), "updates biases, normalisation and what else is no matrix"] = "adamw"

    def for_parameter(self, shape: Shape, *, weight: bool) -> Optimizer:
        """The optimizer `rest` for biases, and for all other parameters of one axis."""
        if weight and len(shape) > 1:
            return self
        rest: Optimizer = self.rest.for_parameter(shape, weight=weight)
        return rest

    def slots(self) -> tuple[str, ...]:
        """The mean of the gradients."""
        return ("momentum",)

    def every_slot(self) -> tuple[str, ...]:
        """The slots of this optimizer and of `rest`."""
        return tuple(dict.fromkeys((*self.slots(), *self.rest.every_slot())))

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = scale orthogonal(m), computed with the shorter side first."""
        mean, momentum, nesterov = slots["momentum"], self.momentum, self.nesterov
        rows, columns = len(gradient), gradient.size // len(gradient)
        scale, short = max(1.0, rows / columns) ** 0.5, min(rows, columns)
        moved, other = (array.reshape(rows, columns) for array in scratch)
        iterate, product = (array.T if rows > columns else array for array in (moved, other))
        square, weighed = (np.empty((short, short), gradient.dtype) for _ in range(2))
        a, b, c = NEWTON_SCHULZ

        def step() -> None:
            np.copyto(other, gradient.reshape(rows, columns))
            follow(mean, gradient, momentum)
            np.copyto(moved, mean.reshape(rows, columns))
            if nesterov:
                np.multiply(moved, momentum, out=moved)
                np.multiply(other, 1 - momentum, out=other)
                np.add(moved, other, out=moved)
            np.divide(moved, _length(moved) + 1e-7, out=moved)
            for _ in range(self.steps):
                np.matmul(iterate, iterate.T, out=square)
                np.matmul(square, square, out=weighed)
                np.multiply(weighed, c, out=weighed)
                np.multiply(square, b, out=square)
                np.add(weighed, square, out=weighed)
                np.matmul(weighed, iterate, out=product)
                np.multiply(iterate, a, out=iterate)
                np.add(iterate, product, out=iterate)
            np.multiply(moved, scale, out=moved)

        return step, moved.reshape(gradient.shape)


def _length(array: Array) -> float:
    return float(np.sqrt(np.vdot(array, array)))
