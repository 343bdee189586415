"""Losses that compare every output with a number: squared and absolute error, Huber, binary cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import PositiveNumber
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.optim.losses.base import batch_shape, class_portions, counted_pixels
from cnnspec.optim.losses.class_weights import Weighted
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.target import Kind, Target


class Elementwise(Weighted):
    """Base of losses that compare every output with a target: L = 1/K sum_k l(y_k, t_k) on K outputs.

    The target is a number for each output, 1 at the class and 0 elsewhere, or, for an autoencoder, the network's
    input. With class weights c all outputs of an image or pixel count sum_k c_k t_k times; if t is "yes" or "no" for
    each class, or one output serves two classes, an output counts c_yes t + c_no (1 - t) times.
    """

    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares", "classes", "values"})

    target: Annotated[Literal["label", "input"], "what the outputs should be"] = "label"

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return self.target == "input"

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """Raise ShapeError if the output has another shape than the target."""
        if not self.reads_input:
            super().check(output, target, given)
            return
        if output != given:
            raise ShapeError(
                f"expected an output of the input's shape {text(given)}, got {text(output)}",
                help="end with a layer that gives back the input's channels, height and width",
            )
        self.check_weights(output, Target("input"))

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Return arrays for every output's loss, its derivative, its target as a number, and how often it counts."""
        shape = batch_shape(output, n)
        hits = {} if self.reads_input else {"hits": Buffer(shape, dtype=bool)}
        counts = {} if self.class_weights is None else {"counts": Buffer(shape)}
        return {"loss": Buffer(shape), "derivative": Buffer(shape), **hits, **counts}

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind the comparison of outputs with targets, the mean for each image, and the scaling of derivatives."""
        loss, derivative = buffers["loss"], buffers["derivative"]
        count = prediction.size // prediction.shape[-1]
        axes = tuple(range(prediction.ndim - 1))
        dense = target.ndim == prediction.ndim  # a number for every output, not a class
        wanted = target if dense else buffers["hits"]
        find = None if dense else class_portions(prediction, target, wanted)
        of_mask = prediction.ndim == 4 and not dense
        counts = None if self.class_weights is None else buffers["counts"]
        weigh = None if counts is None else self._weights(prediction, wanted, counts)

        def step() -> None:
            if find is not None:
                find()
            self.compare(prediction, wanted, loss, derivative)
            if counts is not None and weigh is not None:
                weigh()
                np.multiply(loss, counts, out=loss)
                np.multiply(derivative, counts, out=derivative)
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

    def _weights(self, prediction: Array, wanted: Array, counts: Array) -> Step:
        """The step that writes to `counts` the weight of each output."""
        weights = np.array(self.class_weights, prediction.dtype)
        axis = 1 if prediction.ndim == 4 else 0
        outputs, column = prediction.shape[axis], (-1, *(1,) * (prediction.ndim - 1 - axis))
        if len(weights) == 2 * outputs:  # those of "no", then those of "yes"
            absent, present = (part.reshape(column) for part in weights.reshape(2, -1))

            def by_answer() -> None:
                np.multiply(wanted, present - absent, out=counts)
                np.add(counts, absent, out=counts)

            return by_answer
        row = weights.reshape(column)

        def by_class() -> None:
            np.multiply(wanted, row, out=counts)
            np.copyto(counts, np.add.reduce(counts, axis=axis, keepdims=True))

        return by_class

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
        """The loss where each output says yes and no alike, log 2, times the mean weight of the images' classes."""
        return log(2) * self.mean_weight(labels)

    def least(self, labels: Array, classes: int, images: Array | None = None) -> float:
        """The entropy of the images' pixels if these are the target, as a grey pixel is neither "yes" nor "no"."""
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
        np.exp(derivative, out=derivative)  # infinite for a large -z, for which s is 0
        np.add(derivative, 1, out=derivative)
        np.divide(1, derivative, out=derivative)
        np.subtract(derivative, target, out=derivative)
