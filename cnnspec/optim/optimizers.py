"""Optimizers: how a step follows the gradient, in the fewest passes over one flat array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, Fraction, NonNegativeNumber, PositiveNumber
from cnnspec.kernels.step import Array, Step
from cnnspec.registry import register


@dataclass(frozen=True)
class Update:
    """What every update reads anew, zero-dimensional arrays."""

    rate: Array  # the learning rate
    last_rate: Array  # that of the update before
    count: Array  # the update's number, from 1


class Optimizer(Declaration):
    """Base of all optimizers. Weight decay pulls at weights, not at biases and not at normalisation's parameters."""

    kind: ClassVar[str] = "optimizer"
    scratch: ClassVar[int] = 1  # temporary arrays that `bind` is given
    linear: ClassVar[bool] = False  # in the gradients: they come multiplied by the rate, at no cost by the loss

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.01
    weight_decay: Annotated[NonNegativeNumber, "pull of the weights towards 0; a layer may set its own"] = 0.0

    def slots(self) -> tuple[str, ...]:
        """The names of the arrays that it keeps from step to step, each as long as the parameters."""
        return ()

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Bind an update of one flat stretch. Gradients may be overwritten."""
        raise NotImplementedError


@register("sgd")
class Sgd(Optimizer):
    """g = dw + decay w; v = momentum v + g; w -= rate v, or with nesterov w -= rate (g + momentum v).

    What is kept is rate v: five passes, and three without decay. A change of the rate changes it too.
    Sources: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013); Goyal et al.,
    "Accurate, large minibatch SGD" (2017), section 3, for the change of the rate.
    """

    linear = True

    momentum: Annotated[Fraction, "how much of the last step goes on"] = 0.0
    nesterov: Annotated[bool, "look ahead along the momentum"] = False

    def slots(self) -> tuple[str, ...]:
        """The velocity times the rate, with momentum."""
        return ("velocity",) if self.momentum else ()

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Decay, momentum, step."""
        (spare,), velocity, momentum, nesterov = temporary, slots.get("velocity"), self.momentum, self.nesterov
        rate, last_rate = update.rate, update.last_rate

        def step() -> None:
            if weight_decay:
                np.multiply(weights, float(rate) * weight_decay, out=spare)
                np.add(gradients, spare, out=gradients)
            direction = gradients
            if velocity is not None:
                np.multiply(velocity, momentum * float(rate / last_rate), out=velocity)
                np.add(velocity, gradients, out=velocity)
                direction = velocity
                if nesterov:
                    np.multiply(velocity, momentum, out=spare)
                    np.add(gradients, spare, out=gradients)
                    direction = gradients
            np.subtract(weights, direction, out=weights)

        return step


@register("adam")
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m' / (sqrt(v') + epsilon), m' = m / (1 - b1^t).

    Weight decay is part of the gradient. Source: Kingma and Ba, "Adam" (2014).
    """

    scratch: ClassVar[int] = 2

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.001
    beta1: Annotated[Fraction, "memory of the mean"] = 0.9
    beta2: Annotated[Fraction, "memory of the squares"] = 0.999
    epsilon: Annotated[PositiveNumber, "added to the root"] = 1e-8

    def slots(self) -> tuple[str, ...]:
        """The two moments."""
        return ("mean", "square")

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Both moments, then the step with their corrections folded into two numbers."""
        (first, second), rate, count = temporary, update.rate, update.count
        mean, square, beta1, beta2, epsilon = slots["mean"], slots["square"], self.beta1, self.beta2, self.epsilon

        def step() -> None:
            if weight_decay:
                np.multiply(weights, weight_decay, out=first)
                np.add(gradients, first, out=gradients)
            np.multiply(mean, beta1, out=mean)
            np.multiply(gradients, 1 - beta1, out=first)
            np.add(mean, first, out=mean)
            np.multiply(square, beta2, out=square)
            np.multiply(gradients, gradients, out=first)
            np.multiply(first, 1 - beta2, out=first)
            np.add(square, first, out=square)
            number = int(count)
            np.multiply(square, 1 / (1 - beta2**number), out=second)
            np.sqrt(second, out=second)
            np.add(second, epsilon, out=second)
            np.multiply(mean, float(rate) / (1 - beta1**number), out=first)
            np.divide(first, second, out=first)
            np.subtract(weights, first, out=weights)

        return step


@register("momentum")
class Momentum(Sgd):
    """sgd with momentum 0.9: g = dw + decay w; v = momentum v + g; w -= rate v. Source: Polyak (1964)."""

    momentum: Annotated[Fraction, "how much of the last step goes on"] = 0.9


@register("nesterov")
class Nesterov(Momentum):
    """sgd that looks ahead along its momentum: w -= rate (g + momentum v). Source: Nesterov (1983)."""

    nesterov: Annotated[bool, "look ahead along the momentum"] = True


@register("adamw")
class AdamW(Adam):
    """adam whose decay is apart from the gradient: w -= rate decay w, then adam's step.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2017).
    """

    weight_decay: Annotated[NonNegativeNumber, "pull of the weights towards 0; a layer may set its own"] = 0.01

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """One multiplication for the decay, then adam without one."""
        adam, rate = super().bind(weights, gradients, slots, temporary, update, 0.0), update.rate

        def step() -> None:
            if weight_decay:
                np.multiply(weights, 1 - float(rate) * weight_decay, out=weights)
            adam()

        return step


@register("rmsprop")
class RmsProp(Optimizer):
    """v = memory v + (1 - memory) g^2; b = momentum b + g / (sqrt(v) + epsilon); w -= rate b.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning" (2012).
    """

    scratch: ClassVar[int] = 2

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.001
    memory: Annotated[Fraction, "of the squares"] = 0.99
    epsilon: Annotated[PositiveNumber, "added to the root"] = 1e-8
    momentum: Annotated[Fraction, "how much of the last step goes on"] = 0.0

    def slots(self) -> tuple[str, ...]:
        """The squares, and the velocity with momentum."""
        return ("square", "velocity") if self.momentum else ("square",)

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Decay, squares, quotient, momentum, step."""
        (first, second), rate = temporary, update.rate
        square, velocity = slots["square"], slots.get("velocity")
        memory, epsilon, momentum = self.memory, self.epsilon, self.momentum

        def step() -> None:
            if weight_decay:
                np.multiply(weights, weight_decay, out=first)
                np.add(gradients, first, out=gradients)
            np.multiply(square, memory, out=square)
            np.multiply(gradients, gradients, out=first)
            np.multiply(first, 1 - memory, out=first)
            np.add(square, first, out=square)
            np.sqrt(square, out=second)
            np.add(second, epsilon, out=second)
            np.divide(gradients, second, out=first)
            if velocity is not None:
                np.multiply(velocity, momentum, out=velocity)
                np.add(velocity, first, out=velocity)
                np.copyto(first, velocity)
            np.multiply(first, float(rate), out=first)
            np.subtract(weights, first, out=weights)

        return step


@register("adagrad")
class Adagrad(Optimizer):
    """v += g^2; w -= rate g / (sqrt(v) + epsilon). Source: Duchi, Hazan and Singer (2011)."""

    scratch: ClassVar[int] = 2

    epsilon: Annotated[PositiveNumber, "added to the root"] = 1e-10

    def slots(self) -> tuple[str, ...]:
        """The sum of the squares."""
        return ("square",)

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Decay, squares, quotient, step."""
        (first, second), square, epsilon, rate = temporary, slots["square"], self.epsilon, update.rate

        def step() -> None:
            if weight_decay:
                np.multiply(weights, weight_decay, out=first)
                np.add(gradients, first, out=gradients)
            np.multiply(gradients, gradients, out=first)
            np.add(square, first, out=square)
            np.sqrt(square, out=second)
            np.add(second, epsilon, out=second)
            np.divide(gradients, second, out=first)
            np.multiply(first, float(rate), out=first)
            np.subtract(weights, first, out=weights)

        return step


@register("lion")
class Lion(Optimizer):
    """w -= rate (sign(b1 m + (1 - b1) g) + decay w); m = b2 m + (1 - b2) g.

    Source: Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    """

    scratch: ClassVar[int] = 2

    learning_rate: Annotated[PositiveNumber, "length of a step"] = 0.0001
    beta1: Annotated[Fraction, "weight of the mean in a step"] = 0.9
    beta2: Annotated[Fraction, "memory of the mean"] = 0.99

    def slots(self) -> tuple[str, ...]:
        """The mean of the gradients."""
        return ("mean",)

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Decay, sign, mean."""
        (first, second), mean, beta1, beta2, rate = temporary, slots["mean"], self.beta1, self.beta2, update.rate

        def step() -> None:
            if weight_decay:
                np.multiply(weights, 1 - float(rate) * weight_decay, out=weights)
            np.multiply(mean, beta1, out=first)
            np.multiply(gradients, 1 - beta1, out=second)
            np.add(first, second, out=first)
            np.sign(first, out=first)
            np.multiply(first, float(rate), out=first)
            np.subtract(weights, first, out=weights)
            np.multiply(mean, beta2, out=mean)
            np.multiply(gradients, 1 - beta2, out=second)
            np.add(mean, second, out=mean)

        return step
