"""Losses on one score for each class: cross-entropy of the softmax, and Dice."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, prod
from typing import Annotated, ClassVar, Literal

import numpy as np

from cnnspec.fields import Fraction, PositiveNumber
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.optim.losses.base import batch_shape, class_portions, counted_pixels
from cnnspec.optim.losses.class_weights import Weighted
from cnnspec.registry import register
from cnnspec.shapes import Shape
from cnnspec.target import Kind


class ClassScores(Weighted):
    """Base of losses on the softmax of one score for each class, of an image or of every pixel."""

    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = "softmax"
    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares", "mask"})

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Return arrays for the shifted logits, their softmax, the target, and numbers for each image or pixel."""
        of_map = len(output) == 3
        row = (*output[1:], n) if of_map else (n,)
        names = ("row", "counts", "each") if of_map else ("row", "counts")
        whole = {name: Buffer(batch_shape(output, n)) for name in ("shifted", "softmax", "target")}
        return {**whole, **{name: Buffer(row) for name in names}}


@register("softmax_cross_entropy")
class SoftmaxCrossEntropy(ClassScores):
    """L = -sum_k t_k log softmax(z)_k on logits z; t is 1 at the label. Of a map, the mean over its pixels of a class.

    Label smoothing e makes t = 1 - e + e/K at the label and e/K elsewhere. dL/dz = softmax(z) - t.
    With class weights c an image or pixel counts sum_k c_k t_k times, t before the smoothing; the mean is over all.
    Source of the smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016).
    """

    label_smoothing: Annotated[Fraction, "how much of the target is spread over all classes"] = 0.0

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
        of_map = prediction.ndim == 4
        counts, each = buffers["counts"], buffers["each"] if of_map else losses
        axis, pixels = (1, prod(row.shape[:-1])) if of_map else (0, 1)
        over = np.expand_dims(row, axis)
        weights = None if self.class_weights is None else np.array(self.class_weights, prediction.dtype)
        lowest = np.finfo(prediction.dtype).min
        smoothing, spread = self.label_smoothing, self.label_smoothing / prediction.shape[axis]
        portions = class_portions(prediction, target, wanted)
        of_mask = target.ndim < prediction.ndim and of_map

        def step() -> None:
            portions()
            counted = counted_pixels(target) if of_mask else None
            number = pixels if counted is None else np.maximum(np.add.reduce(counted, axis=(0, 1)), 1)
            weighted = weights is not None or counted is not None
            if counted is not None:
                np.copyto(counts, counted)
            if weights is not None:
                if of_map:
                    flat = wanted.reshape(*wanted.shape[:2], -1)
                    np.matmul(weights, flat, out=counts.reshape(len(counts), -1))
                else:
                    np.matmul(weights, wanted, out=counts)
            if spread:
                np.multiply(wanted, 1 - smoothing, out=wanted)
                np.add(wanted, spread, out=wanted)
            np.maximum.reduce(prediction, axis=axis, out=row)
            np.subtract(prediction, over, out=shifted)
            np.maximum(shifted, lowest, out=shifted)  # 0 times -inf is not a number
            np.exp(shifted, out=softmax)
            np.add.reduce(softmax, axis=axis, out=row)
            np.divide(softmax, over, out=softmax)
            np.multiply(shifted, wanted, out=shifted)
            np.add.reduce(shifted, axis=axis, out=each)
            np.log(row, out=row)
            np.subtract(row, each, out=each)
            if weighted:
                np.multiply(each, counts, out=each)
            if of_map:
                np.add.reduce(each, axis=(0, 1), out=losses)
                np.divide(losses, number, out=losses)
            if gradient is not None:
                np.subtract(softmax, wanted, out=gradient)
                np.multiply(gradient, 1 / (number * batch), out=gradient)
                if weighted:
                    np.multiply(gradient, np.expand_dims(counts, axis), out=gradient)

        return step

    def least(self, labels: Array, classes: int, images: Array | None = None) -> float:
        """The entropy of the smoothed targets, -sum_k t_k log t_k, times the mean weight of the images' classes."""
        spread = self.label_smoothing / classes
        if not spread:
            return 0.0
        top = 1 - self.label_smoothing + spread
        entropy = -top * log(top) - (classes - 1) * spread * log(spread)
        return entropy * self.mean_weight(labels)

    def unlearned(self, labels: Array, classes: int) -> float:
        """The loss of probabilities 1/K for K classes, log K, times the mean weight of the images' classes."""
        return log(classes) * self.mean_weight(labels)


@register("dice")
class Dice(ClassScores):
    """L = 1 - 1/K sum_k (2 sum_p s t + e) / (sum_p s + sum_p t + e), s = softmax(z), e `smooth`, over pixels p.

    The fraction is twice the overlap of a class's scores and its mask, divided by the sum of both: large and small
    classes count alike. Class weights c multiply the term of class k: L = 1/K sum_k c_k (1 - ...).
    Source: Milletari, Navab and Ahmadi, "V-Net" (2016).
    """

    targets: ClassVar[frozenset[Kind]] = frozenset({"mask"})

    smooth: Annotated[PositiveNumber, "added to both, so that a class which is not there counts as found"] = 1.0

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """With N and D of the fraction: dL/ds = -(2 t D - N) / (K D^2), dL/dz = s (dL/ds - sum_k s dL/ds)."""
        shifted, softmax, wanted, row = (buffers[k] for k in ("shifted", "softmax", "target", "row"))
        each, over, classes = buffers["each"], np.expand_dims(row, 1), prediction.shape[1]
        portions, smooth = class_portions(prediction, target, wanted), self.smooth
        weights = np.array([1.0] * classes if self.class_weights is None else self.class_weights, prediction.dtype)
        mean_weight, column = weights.mean(), weights[:, None]

        def step() -> None:
            portions()
            np.maximum.reduce(prediction, axis=1, out=row)
            np.subtract(prediction, over, out=shifted)
            np.exp(shifted, out=softmax)
            np.add.reduce(softmax, axis=1, out=row)
            np.divide(softmax, over, out=softmax)
            counted = counted_pixels(target)
            if counted is not None:
                np.multiply(softmax, counted[:, None], out=softmax)
            np.multiply(softmax, wanted, out=shifted)
            common = 2 * np.add.reduce(shifted, axis=(0, 2)) + smooth
            whole = np.add.reduce(softmax, axis=(0, 2)) + np.add.reduce(wanted, axis=(0, 2)) + smooth
            np.subtract(mean_weight, (common / whole * column).mean(axis=0), out=losses)
            if gradient is not None:
                np.multiply(wanted, (-2 / classes / whole * column)[:, None], out=shifted)
                np.add(shifted, (common / classes / whole**2 * column)[:, None], out=shifted)
                np.multiply(shifted, softmax, out=wanted)
                np.add.reduce(wanted, axis=1, out=each)
                np.subtract(shifted, np.expand_dims(each, 1), out=shifted)
                np.multiply(shifted, softmax, out=gradient)
                np.multiply(gradient, 1 / batch, out=gradient)

        return step
