"""Optimizers: how a step follows the gradient, in the fewest passes over one flat array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, Fraction, NonNegativeNumber, PositiveNumber
from cnnspec.kernels.step import Array, Step
from cnnspec.registry import register

PULL, FACTORS = 3, 3  # numbers that an `Update` has room for


@dataclass(frozen=True)
class Update:
    """What every update of the weights that one decay applies to reads anew."""

    rate: Array  # the learning rate, zero-dimensional as are the next two
    last_rate: Array  # that of the update before
    count: Array  # the update's number, from 1
    pull: Array  # (PULL,) in float64: what an optimizer remembers of the update before
    next_pull: Array  # (PULL,): what it will remember of this one, once it is through
    factors: Array  # (FACTORS,) of the weights' type: what it multiplies all weights, or their slots, by


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

    def begin(self, update: Update, weight_decay: float) -> None:
        """Compute what is the same for all stretches, before any of them."""

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


SMALLEST_PULL = 2**-16  # of weights: of a smaller one too much would be lost where single precision rounds 1 - x
LARGEST_PULL = 2**-4  # a larger one would leave too little of the velocity


@register("sgd")
class Sgd(Optimizer):
    """g = dw + decay w; v = momentum v + g; w -= rate v, or with nesterov w -= rate (g + momentum v).

    Decay needs no pass over the gradients: of v a share x of the weights is left out. With s = rate v - x w, where w
    is from before the update, and r the rate by that of the update before, the same weights come from

        x' = rate decay + momentum r x / (1 - x),    s' = momentum r / (1 - x) s + rate dw,    w' = (1 - x') w - s'.

    What is lost where 1 - x' is rounded is made up for in the next update. Where x' would be too small or too large, or
    with nesterov, it is added to s' instead: one pass more.
    Sources: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013); Goyal et al.,
    "Accurate, large minibatch SGD" (2017), section 3, for the change of the rate.
    """

    linear = True

    momentum: Annotated[Fraction, "how much of the last step goes on"] = 0.0
    nesterov: Annotated[bool, "look ahead along the momentum"] = False

    def slots(self) -> tuple[str, ...]:
        """s, with momentum."""
        return ("velocity",) if self.momentum else ()

    def begin(self, update: Update, weight_decay: float) -> None:
        """The factors of s, of w beside s, and of w in s; to remember: x, what 1 - x took away, and what it owes."""
        x, taken, owed = update.pull.tolist()
        rate, following, factors = update.rate.item(), update.next_pull, update.factors
        momentum, decay = self.momentum * rate / update.last_rate.item(), rate * weight_decay
        factors[0], x = momentum * (1 + x / (1 - taken)), decay + momentum * x / (1 - taken)
        if self.nesterov or decay < SMALLEST_PULL * (1 - self.momentum) or x > LARGEST_PULL:
            factors[1], factors[2] = 1, x
            following.fill(0)
        else:
            factors[1], factors[2] = 1 - x - owed, 0
            taken = 1 - factors.item(1)
            following[0], following[1], following[2] = x, taken, owed + x - taken

    def bind(
        self,
        weights: Array,
        gradients: Array,
        slots: Mapping[str, Array],
        temporary: tuple[Array, ...],
        update: Update,
        weight_decay: float,
    ) -> Step:
        """Momentum, decay, step: four passes, two of which are cheap, and three without decay."""
        (spare,), velocity, nesterov = temporary, slots.get("velocity"), self.nesterov
        of_s, keep, rest = (update.factors[i : i + 1].reshape(()) for i in range(FACTORS))

        def step() -> None:
            if rest:
                np.multiply(weights, rest, out=spare)
                np.add(gradients, spare, out=gradients)
            elif weight_decay:
                np.multiply(weights, keep, out=weights)
            direction = gradients
            if velocity is not None:
                np.multiply(velocity, of_s, out=velocity)
                np.add(velocity, gradients, out=velocity)
                direction = velocity
                if nesterov:
                    np.multiply(velocity, self.momentum, out=spare)
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
