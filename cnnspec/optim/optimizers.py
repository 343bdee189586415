"""Optimizers: how the gradient of a step changes the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, Fraction, NonNegativeNumber, PositiveNumber
from cnnspec.kernels.step import Array, Step
from cnnspec.registry import register
from cnnspec.shapes import Shape


@dataclass(frozen=True)
class Update:
    """The numbers that change from update to update, as zero-dimensional arrays that steps read."""

    rate: Array  # the learning rate
    number: Array  # the number of this update, from 1 on


class Optimizer(Declaration):
    """Base of all optimizers: w -= rate d, where the direction d is made of the gradient g.

    Weight decay is added to the gradient, g += decay w, or, where it is decoupled, to the direction, d += decay w. It
    applies to weights, not to biases and not to the parameters of normalisation.
    """

    kind: ClassVar[str] = "optimizer"
    adaptive: ClassVar[bool] = False  # whether a weight moves by about the rate, whatever the size of its gradient
    decoupled: ClassVar[bool] = False  # whether weight decay is kept out of the gradient
    whole: ClassVar[bool] = False  # whether it gets each parameter in its shape, not parts of a flat array
    scratch: ClassVar[int] = 1  # how many temporary arrays an update needs, at least 1

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.01
    weight_decay: Annotated[NonNegativeNumber, "how strongly weights shrink towards 0; a layer may set its own"] = 0.0

    def for_parameter(self, shape: Shape, *, weight: bool) -> Optimizer:
        """The optimizer for a weight or bias of that shape: this one, unless it delegates the parameter to another."""
        return self

    def slots(self) -> tuple[str, ...]:
        """The names of the arrays that it keeps between updates, each as long as the weights and 0 at first."""
        return ()

    def every_slot(self) -> tuple[str, ...]:
        """The names of all slots, those of optimizers that it delegates parameters to included."""
        return self.slots()

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """Bind the computation of d; return the step, and the array that holds d then: the gradient, a slot or scratch.

        The step may overwrite the gradient and scratch. It reads `number`, the update's number, when it runs.
        """
        raise NotImplementedError

    def bind(
        self,
        weights: Array,
        gradient: Array,
        slots: Mapping[str, Array],
        scratch: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Bind one update of a chunk of the weights; all arrays are flat, of one type and one length.

        If the optimizer is `whole` they have the shape of one parameter. The step overwrites the gradient and
        scratch. It reads `update` when it runs.
        """
        compute, direction = self.direction(gradient, slots, scratch, update.number)
        coupled, decoupled = (0.0, weight_decay) if self.decoupled else (weight_decay, 0.0)
        decay, rate = scratch[0], update.rate

        def step() -> None:
            if coupled:
                np.multiply(weights, coupled, out=decay)
                np.add(gradient, decay, out=gradient)
            compute()
            np.multiply(direction, float(rate), out=gradient)
            if decoupled:
                np.multiply(weights, float(rate) * decoupled, out=decay)
                np.add(gradient, decay, out=gradient)
            np.subtract(weights, gradient, out=weights)

        return step


@register("sgd")
class Sgd(Optimizer):
    """g = dw + decay w; v = momentum v + g; w -= rate v, or with nesterov w -= rate (g + momentum v).

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).
    """

    momentum: Annotated[Fraction, "how much of the last step is kept"] = 0.0
    nesterov: Annotated[bool, "look ahead along the momentum"] = False

    def slots(self) -> tuple[str, ...]:
        """The velocity v, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = g without momentum, v with it, g + momentum v with nesterov."""
        velocity, momentum, nesterov, ahead = slots.get("velocity"), self.momentum, self.nesterov, scratch[0]
        if velocity is None:
            return lambda: None, gradient

        def step() -> None:
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            if nesterov:
                np.multiply(velocity, momentum, out=ahead)
                np.add(ahead, gradient, out=ahead)

        return step, ahead if nesterov else velocity


@register("momentum")
class Momentum(Sgd):
    """sgd with momentum 0.9: g = dw + decay w; v = momentum v + g; w -= rate v. Source: Polyak (1964)."""

    momentum: Annotated[Fraction, "how much of the last step is kept"] = 0.9


@register("nesterov")
class Nesterov(Momentum):
    """sgd that looks ahead along its momentum: w -= rate (g + momentum v). Source: Nesterov (1983)."""

    nesterov: Annotated[bool, "look ahead along the momentum"] = True


@register("adam")
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m' / (sqrt(v') + epsilon), m' = m / (1 - b1^t).

    Likewise v' = v / (1 - b2^t), at update t: both start at 0, which the divisions make up for.
    Weight decay is part of the gradient. Source: Kingma and Ba, "Adam" (2014).
    """

    adaptive: ClassVar[bool] = True

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.001
    beta1: Annotated[Fraction, "how much of the mean is kept"] = 0.9
    beta2: Annotated[Fraction, "how much of the mean of squares is kept"] = 0.999
    epsilon: Annotated[PositiveNumber, "added to the root, against division by 0"] = 1e-8

    def slots(self) -> tuple[str, ...]:
        """The mean m of the gradients and the mean v of their squares."""
        return ("mean", "square")

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = m / (sqrt(v c1^2 / c2) + epsilon c1), with c = 1 - b^t: both corrections are below the line."""
        mean, square, root = slots["mean"], slots["square"], scratch[0]
        beta1, beta2, epsilon = self.beta1, self.beta2, self.epsilon

        def step() -> None:
            follow(square, np.multiply(gradient, gradient, out=root), beta2)
            follow(mean, gradient, beta1)
            c1, c2 = 1 - beta1 ** int(number), 1 - beta2 ** int(number)
            np.multiply(square, c1**2 / c2, out=root)
            np.sqrt(root, out=root)
            np.add(root, epsilon * c1, out=root)
            np.divide(mean, root, out=root)

        return step, root


@register("adamw")
class AdamW(Adam):
    """adam whose weight decay is apart from the gradient: w -= rate (m' / (sqrt(v') + epsilon) + decay w).

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2017).
    """

    decoupled: ClassVar[bool] = True

    weight_decay: Annotated[NonNegativeNumber, "how strongly weights shrink towards 0; a layer may set its own"] = 0.01


@register("rmsprop")
class RmsProp(Optimizer):
    """v = memory v + (1 - memory) g^2; b = momentum b + g / (sqrt(v) + epsilon); w -= rate b.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning" (2012).
    """

    adaptive: ClassVar[bool] = True

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.001
    memory: Annotated[Fraction, "how much of the mean of squares is kept"] = 0.99
    epsilon: Annotated[PositiveNumber, "added to the root, against division by 0"] = 1e-8
    momentum: Annotated[Fraction, "how much of the last step is kept"] = 0.0

    def slots(self) -> tuple[str, ...]:
        """The mean v of the squares, and the velocity b where there is momentum."""
        return ("square", "velocity") if self.momentum else ("square",)

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = b, which is g / (sqrt(v) + epsilon) without momentum."""
        square, velocity, root = slots["square"], slots.get("velocity"), scratch[0]
        memory, epsilon, momentum = self.memory, self.epsilon, self.momentum

        def step() -> None:
            follow(square, np.multiply(gradient, gradient, out=root), memory)
            np.sqrt(square, out=root)
            np.add(root, epsilon, out=root)
            np.divide(gradient, root, out=gradient)
            if velocity is not None:
                np.multiply(velocity, momentum, out=velocity)
                np.add(velocity, gradient, out=velocity)

        return step, gradient if velocity is None else velocity


@register("adagrad")
class Adagrad(Optimizer):
    """v += g^2; w -= rate g / (sqrt(v) + epsilon). Source: Duchi, Hazan and Singer (2011)."""

    epsilon: Annotated[PositiveNumber, "added to the root, against division by 0"] = 1e-10

    def slots(self) -> tuple[str, ...]:
        """The sum v of the squares."""
        return ("square",)

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = g / (sqrt(v) + epsilon)."""
        square, root, epsilon = slots["square"], scratch[0], self.epsilon

        def step() -> None:
            np.add(square, np.multiply(gradient, gradient, out=root), out=square)
            np.sqrt(square, out=root)
            np.add(root, epsilon, out=root)
            np.divide(gradient, root, out=gradient)

        return step, gradient


@register("lion")
class Lion(Optimizer):
    """w -= rate (sign(b1 m + (1 - b1) g) + decay w); m = b2 m + (1 - b2) g.

    Source: Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    """

    adaptive: ClassVar[bool] = True
    decoupled: ClassVar[bool] = True
    scratch: ClassVar[int] = 2

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.0001
    beta1: Annotated[Fraction, "weight of the mean in a step"] = 0.9
    beta2: Annotated[Fraction, "how much of the mean is kept"] = 0.99

    def slots(self) -> tuple[str, ...]:
        """The mean m of the gradients."""
        return ("mean",)

    def direction(
        self, gradient: Array, slots: Mapping[str, Array], scratch: tuple[Array, ...], number: Array
    ) -> tuple[Step, Array]:
        """d = sign(b1 m + (1 - b1) g), with m of the update before."""
        mean, beta1, beta2, (sign, part) = slots["mean"], self.beta1, self.beta2, scratch

        def step() -> None:
            np.multiply(mean, beta1, out=sign)
            np.multiply(gradient, 1 - beta1, out=part)
            np.add(sign, part, out=sign)
            np.sign(sign, out=sign)
            follow(mean, gradient, beta2)

        return step, sign


def follow(average: Array, value: Array, memory: float) -> None:
    """Move an average towards a value, average = memory average + (1 - memory) value; the value is overwritten."""
    np.multiply(average, memory, out=average)
    np.multiply(value, 1 - memory, out=value)
    np.add(average, value, out=average)
