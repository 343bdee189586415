"""Losses: what training minimises, with the gradient where the backward pass starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import Declaration, Fraction
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


class Loss(Declaration):
    """Base of all losses. The loss of a batch is the mean over its images."""

    kind: ClassVar[str] = "loss"

    def check(self, output: Shape, classes: int | None) -> None:
        """ShapeError where the network's output does not fit; `classes` are the data's."""
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
        """The arrays that a step on n images uses."""
        raise NotImplementedError

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind losses (n,) and the gradient of the mean over `batch` images to prediction (features, n).

        `target` holds labels (n,), or the shares (classes, n) in which images that were mixed belong to the classes.
        """
        raise NotImplementedError

    def probabilities(self, output: Array) -> Array:
        """One image's class probabilities from the network's output (features,)."""
        raise NotImplementedError


@register("softmax_cross_entropy")
class SoftmaxCrossEntropy(Loss):
    """L = -sum_k t_k log softmax(z)_k on logits z; t is 1 at the label.

    Label smoothing e makes t = 1 - e + e/K at the label and e/K elsewhere. dL/dz = softmax(z) - t.
    Source of the smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016).
    """

    label_smoothing: Annotated[Fraction, "share of the target that is spread over all classes"] = 0.0

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Shifted logits, their exponentials, the target, and one number an image."""
        classes = output[0]
        return {
            "shifted": Buffer((classes, n)),
            "softmax": Buffer((classes, n)),
            "target": Buffer((classes, n)),
            "hits": Buffer((classes, n), dtype=bool),
            "row": Buffer((n,)),
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
        """Shifted by the largest logit: L = log sum exp(s) - sum t s, s = z - max z."""
        shifted, softmax, wanted, hits, row = (buffers[k] for k in ("shifted", "softmax", "target", "hits", "row"))
        classes = np.arange(len(prediction))[:, None]
        smoothing, spread = self.label_smoothing, self.label_smoothing / len(prediction)

        def step() -> None:
            shares = target if target.ndim == 2 else np.equal(classes, target, out=hits)
            np.multiply(shares, 1 - smoothing, out=wanted, dtype=wanted.dtype)
            if spread:
                np.add(wanted, spread, out=wanted)
            np.maximum.reduce(prediction, axis=0, out=row)
            np.subtract(prediction, row, out=shifted)
            np.exp(shifted, out=softmax)
            np.add.reduce(softmax, axis=0, out=row)
            np.divide(softmax, row, out=softmax)
            np.multiply(shifted, wanted, out=shifted)
            np.add.reduce(shifted, axis=0, out=losses)
            np.log(row, out=row)
            np.subtract(row, losses, out=losses)
            if gradient is not None:
                np.subtract(softmax, wanted, out=gradient)
                np.multiply(gradient, 1 / batch, out=gradient)

        return step

    def probabilities(self, output: Array) -> Array:
        """softmax(z)."""
        grown = np.exp(output - output.max())
        return np.asarray(grown / grown.sum())


@register("mean_squared_error")
class MeanSquaredError(Loss):
    """L = 1/K sum_k (y_k - t_k)^2 on K outputs; t is 1 at the label and 0 elsewhere. dL/dy = 2 (y - t) / K."""

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The difference to the target, and its square."""
        return {
            "difference": Buffer((*output, n)),
            "square": Buffer((*output, n)),
            "hits": Buffer((*output, n), dtype=bool),
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
        """One difference, one square, one mean."""
        difference, square, hits = buffers["difference"], buffers["square"], buffers["hits"]
        count = len(prediction)
        classes = np.arange(count)[:, None]

        def step() -> None:
            shares = target if target.ndim == 2 else np.equal(classes, target, out=hits)
            np.subtract(prediction, shares, out=difference)
            np.multiply(difference, difference, out=square)
            np.add.reduce(square, axis=0, out=losses)
            np.divide(losses, count, out=losses)
            if gradient is not None:
                np.multiply(difference, 2 / (count * batch), out=gradient)

        return step

    def probabilities(self, output: Array) -> Array:
        """The outputs, cut to 0..1."""
        return np.clip(output, 0, 1)
