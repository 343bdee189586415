"""Losses that compare every output with a number: squared and absolute error, Huber, binary cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import PositiveNumber
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.optim.losses.base import Loss, batch_shape, class_portions, counted_pixels
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.target import Kind, Target


class Elementwise(Loss):
    """Base of losses that compare every output with a target: L = 1/K sum_k l(y_k, t_k) on K outputs.

    The target is a number for each output, 1 at the class and 0 elsewhere, or, for an autoencoder, what the network
    was given.
    """

    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares", "classes", "values"})

    target: Annotated[Literal["label", "input"], "what the outputs should be"] = "label"

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return self.target == "input"

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """ShapeError where the output has another shape than the target."""
        if not self.reads_input:
            super().check(output, target, given)
        elif output != given:
            raise ShapeError(
                f"expected an output of the input's shape {text(given)}, got {text(output)}",
                help="end with a layer that gives back the input's channels, height and width",
            )

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The loss of every output, its derivative, and whether its class is the image's."""
        shape = batch_shape(output, n)
        hits = {} if self.reads_input else {"hits": Buffer(shape, dtype=bool)}
        return {"loss": Buffer(shape), "derivative": Buffer(shape), **hits}

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Compare every output with its target, take each image's mean, and scale the derivatives to the gradient."""
        loss, derivative = buffers["loss"], buffers["derivative"]
        count = prediction.size // prediction.shape[-1]
        axes = tuple(range(prediction.ndim - 1))
        dense = target.ndim == prediction.ndim  # a number for every output, not a class
        wanted = target if dense else buffers["hits"]
        find = None if dense else class_portions(prediction, target, wanted)
        of_mask = prediction.ndim == 4 and not dense

        def step() -> None:
            if find is not None:
                find()
            self.compare(prediction, wanted, loss, derivative)
            counted = counted_pixels(target) if of_mask else None
            number = count
            if counted is not None:
                number = np.maximum(np.add.reduce(counted, axis=(0, 1)) * prediction.shape[1], 1)
                np.multiply(loss, counted[:, None], out=loss)
                np.multiply(derivative, counted[:, None], out=derivative)
            np.add.reduce(loss, axis=axes, out=losses)
            np.divide(losses, number, out=losses)
            if gradient is not None:
                np.multiply(derivative, 1 / (number * batch), out=gradient)

        return step

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """Write l(y, t) to `loss` and dl/dy to `derivative`, for every output of every image."""
        raise NotImplementedError


@register("mean_squared_error")
class MeanSquaredError(Elementwise):
    """L = 1/K sum_k (y_k - t_k)^2 on K outputs. dL/dy = 2 (y - t) / K. The target is the label's class or the input."""

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """With the difference d = y - t: l = d^2, dl/dy = 2 d."""
        np.subtract(prediction, target, out=derivative)
        np.multiply(derivative, derivative, out=loss)
        np.multiply(derivative, 2, out=derivative)


@register("mean_absolute_error")
class MeanAbsoluteError(Elementwise):
    """L = 1/K sum_k |y_k - t_k| on K outputs. dL/dy = sign(y - t) / K."""

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """With the difference d = y - t: l = |d|, dl/dy = sign d."""
        np.subtract(prediction, target, out=loss)
        np.sign(loss, out=derivative)
        np.abs(loss, out=loss)


@register("huber")
class Huber(Elementwise):
    """L = 1/K sum_k h(y_k - t_k), h(d) = d^2/2 for |d| <= delta, else delta (|d| - delta/2). dh/dd = d cut to +-delta.

    Source: Huber, "Robust estimation of a location parameter" (1964).
    """

    delta: Annotated[PositiveNumber, "difference at which the square becomes a line"] = 1.0

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """With c the difference d cut to +-delta: h = (d - c/2) c, dh/dd = c."""
        np.subtract(prediction, target, out=loss)
        np.clip(loss, -self.delta, self.delta, out=derivative)
        np.multiply(derivative, 0.5, out=derivative)
        np.subtract(loss, derivative, out=loss)
        np.multiply(derivative, 2, out=derivative)
        np.multiply(loss, derivative, out=loss)


@register("binary_cross_entropy")
class BinaryCrossEntropy(Elementwise):
    """L = -1/K sum_k t log s(z) + (1 - t) log(1 - s(z)) on logits z, s the sigmoid: each output is a yes or a no.

    Written max(z, 0) - z t + log(1 + e^-|z|), which does not overflow. dL/dz = (s(z) - t) / K. One output serves two
    classes: the yes is the second one.
    """

    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = "sigmoid"
    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares", "classes", "mask"})
    one_output: ClassVar[bool] = True

    def unlearned(self, labels: Array, classes: int) -> float:
        """The loss where each output says yes and no alike, log 2."""
        return log(2)

    def least(self, labels: Array, classes: int, images: Array | None = None) -> float:
        """The entropy of the images' pixels, where these are the target; a grey one is neither a yes nor a no."""
        if not self.reads_input or images is None:
            return 0.0
        portions = np.clip(images.astype(np.float64), 1e-9, 1 - 1e-9)
        return float(-(portions * np.log(portions) + (1 - portions) * np.log1p(-portions)).mean())

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """l in the form that does not overflow, its exact difference max(z, 0) - z t first; dl/dz = s(z) - t."""
        np.maximum(prediction, 0, out=loss)
        np.multiply(prediction, target, out=derivative)
        np.subtract(loss, derivative, out=loss)
        np.abs(prediction, out=derivative)
        np.negative(derivative, out=derivative)
        np.exp(derivative, out=derivative)
        np.log1p(derivative, out=derivative)
        np.add(loss, derivative, out=loss)
        np.negative(prediction, out=derivative)
        np.exp(derivative, out=derivative)  # infinite for a large -z, of which s is 0
        np.add(derivative, 1, out=derivative)
        np.divide(1, derivative, out=derivative)
        np.subtract(derivative, target, out=derivative)
