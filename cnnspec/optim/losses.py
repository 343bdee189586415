"""Losses: what training minimises, and the gradient that the backward pass starts with."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from cnnspec.fields import Declaration, Fraction, PositiveNumber, Schema
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


class Loss(Declaration):
    """Base of all losses. The loss of a batch is the mean over its images."""

    kind: ClassVar[str] = "loss"
    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = None  # what it makes probabilities of the outputs with

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return False

    def check(self, output: Shape, classes: int | None, given: Shape) -> None:
        """ShapeError where the network's output does not fit; `classes` are the data's, `given` the input's shape."""
        if len(output) != 1:
            raise ShapeError(
                f"{self.type_name} expects a vector of class scores, got a map of {text(output)}",
                help="end with flatten or global_avg_pool2d, and dense",
            )
        if classes is not None and output[0] != classes:
            raise ShapeError(
                f"expected {classes} outputs, one for each class of the data, got {output[0]}",
                help=f"use units: {classes}",
            )

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The temporary arrays that `bind` is given for n images, by name."""
        return {}

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind the loss of every image, losses (n,), and the gradient of the mean over `batch` images.

        The gradient is by the prediction (features, n), or (h, c, w, n) where the network ends in a map; None at
        inference. `target` holds labels (n,), or what portion of each image belongs to each class (classes, n), where
        images were mixed, or the network's input where `reads_input`.
        """
        raise NotImplementedError

    def least(self, labels: Array, classes: int) -> float:
        """The mean loss of images with these labels (n,) for outputs that fit them as well as any can."""
        return 0.0

    def unlearned(self, labels: Array, classes: int) -> float | None:
        """The mean loss where the network finds all classes equally likely, as it should at first; None if unknown."""
        return None

    def probabilities(self, output: Array) -> Array:
        """Class probabilities from one image's outputs (features,): by what `applies` says, or else cut to 0..1."""
        if self.applies == "softmax":
            grown = np.exp(output - output.max())
            return np.asarray(grown / grown.sum())
        if self.applies == "sigmoid":
            return np.asarray(0.5 + 0.5 * np.tanh(output / 2))
        return np.clip(output, 0, 1)


def _class_weights(value: Any) -> tuple[float, ...]:
    weights = tuple(float(weight) for weight in value)
    if not all(0 <= weight < inf for weight in weights) or not any(weights):
        raise ValueError(f"class_weights: expected numbers of at least 0, one of them above 0, got {list(weights)}")
    return weights


ClassWeights = Annotated[
    tuple[float, ...],
    Schema(
        {
            "type": "array",
            "items": {"type": "number", "minimum": 0},
            "minItems": 1,
            "contains": {"type": "number", "exclusiveMinimum": 0},
        },
        _class_weights,
    ),
]


@register("softmax_cross_entropy")
class SoftmaxCrossEntropy(Loss):
    """L = -sum_k t_k log softmax(z)_k on logits z; t is 1 at the label.

    Label smoothing e makes t = 1 - e + e/K at the label and e/K elsewhere. dL/dz = softmax(z) - t.
    With class weights c an image counts sum_k c_k t_k times, t before the smoothing; the mean still is over the images.
    Source of the smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016).
    """

    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = "softmax"

    label_smoothing: Annotated[Fraction, "how much of the target is spread over all classes"] = 0.0
    class_weights: Annotated[ClassWeights | None, "how much an image of each class counts"] = None

    def check(self, output: Shape, classes: int | None, given: Shape) -> None:
        """ShapeError where the output does not fit, or where there are not as many weights as classes."""
        super().check(output, classes, given)
        if self.class_weights is not None and len(self.class_weights) != output[0]:
            raise ShapeError(
                f"expected {output[0]} class_weights, one for each output, got {len(self.class_weights)}",
                help="give one number for each class, in the order of the classes",
            )

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Shifted logits, their softmax, the target, and two numbers for each image."""
        classes = output[0]
        return {
            "shifted": Buffer((classes, n)),
            "softmax": Buffer((classes, n)),
            "target": Buffer((classes, n)),
            "row": Buffer((n,)),
            "counts": Buffer((n,)),
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
        """L = log sum_k exp(s_k) - sum_k t_k s_k, with s = z - max z: no exponential overflows."""
        shifted, softmax, wanted, row = (buffers[k] for k in ("shifted", "softmax", "target", "row"))
        counts = buffers["counts"]
        weights = None if self.class_weights is None else np.array(self.class_weights, prediction.dtype)
        classes, lowest = np.arange(len(prediction))[:, None], np.finfo(prediction.dtype).min
        smoothing, spread = self.label_smoothing, self.label_smoothing / len(prediction)

        def step() -> None:
            if target.ndim == 2:
                np.copyto(wanted, target)
            else:
                np.equal(classes, target, out=wanted)
            if weights is not None:
                np.matmul(weights, wanted, out=counts)
            if spread:
                np.multiply(wanted, 1 - smoothing, out=wanted)
                np.add(wanted, spread, out=wanted)
            np.maximum.reduce(prediction, axis=0, out=row)
            np.subtract(prediction, row, out=shifted)
            np.maximum(shifted, lowest, out=shifted)  # 0 times -inf is not a number
            np.exp(shifted, out=softmax)
            np.add.reduce(softmax, axis=0, out=row)
            np.divide(softmax, row, out=softmax)
            np.multiply(shifted, wanted, out=shifted)
            np.add.reduce(shifted, axis=0, out=losses)
            np.log(row, out=row)
            np.subtract(row, losses, out=losses)
            if weights is not None:
                np.multiply(losses, counts, out=losses)
            if gradient is not None:
                np.subtract(softmax, wanted, out=gradient)
                np.multiply(gradient, 1 / batch, out=gradient)
                if weights is not None:
                    np.multiply(gradient, counts, out=gradient)

        return step

    def least(self, labels: Array, classes: int) -> float:
        """The entropy of the smoothed targets, -sum_k t_k log t_k, times the mean weight of the images' classes."""
        spread = self.label_smoothing / classes
        if not spread:
            return 0.0
        top = 1 - self.label_smoothing + spread
        entropy = -top * log(top) - (classes - 1) * spread * log(spread)
        return entropy * self._mean_weight(labels)

    def unlearned(self, labels: Array, classes: int) -> float:
        """The loss of probabilities 1/K for K classes, log K, times the mean weight of the images' classes."""
        return log(classes) * self._mean_weight(labels)

    def _mean_weight(self, labels: Array) -> float:
        return 1.0 if self.class_weights is None else float(np.array(self.class_weights)[labels].mean())


class Elementwise(Loss):
    """Base of losses that compare every output with a target: L = 1/K sum_k l(y_k, t_k) on K outputs.

    The target is 1 at the label and 0 elsewhere, or, for an autoencoder, what the network was given.
    """

    target: Annotated[Literal["label", "input"], "what the outputs should be"] = "label"

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return self.target == "input"

    def check(self, output: Shape, classes: int | None, given: Shape) -> None:
        """ShapeError where the output has another shape than the target."""
        if not self.reads_input:
            super().check(output, classes, given)
        elif output != given:
            raise ShapeError(
                f"expected an output of the input's shape {text(given)}, got {text(output)}",
                help="end with a layer that gives back the input's channels, height and width",
            )

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The loss of every output, its derivative, and whether its class is the image's."""
        shape = (output[1], output[0], output[2], n) if len(output) == 3 else (*output, n)
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
        loss, derivative, hits = buffers["loss"], buffers["derivative"], buffers.get("hits")
        count = prediction.size // prediction.shape[-1]
        axes = tuple(range(prediction.ndim - 1))
        classes = np.arange(len(prediction))[:, None]
        dense = target.ndim == prediction.ndim  # a number for every output, not a label for every image

        def step() -> None:
            wanted = target if dense else np.equal(classes, target, out=hits)
            self.compare(prediction, wanted, loss, derivative)
            np.add.reduce(loss, axis=axes, out=losses)
            np.divide(losses, count, out=losses)
            if gradient is not None:
                np.multiply(derivative, 1 / (count * batch), out=gradient)

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

    Written max(z, 0) - z t + log(1 + e^-|z|), which does not overflow. dL/dz = (s(z) - t) / K.
    """

    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = "sigmoid"

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
