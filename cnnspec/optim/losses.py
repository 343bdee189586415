"""Losses: what training minimises, and the gradient that the backward pass starts with."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log, prod
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from cnnspec.fields import Declaration, Fraction, PositiveNumber, Schema
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.target import KINDS, Kind, Target

CURES: Mapping[Kind, str] = {
    "class": "use softmax_cross_entropy",
    "shares": "use softmax_cross_entropy",
    "classes": "use binary_cross_entropy",
    "values": "use mean_squared_error, mean_absolute_error or huber",
    "mask": "use softmax_cross_entropy or dice",
    "input": "leave out target: input",
}


class Loss(Declaration):
    """Base of all losses. The loss of a batch is the mean over its images."""

    kind: ClassVar[str] = "loss"
    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = None  # what it makes probabilities of the outputs with
    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares"})  # what it can compare outputs with
    one_output: ClassVar[bool] = False  # whether one output can serve two classes

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return False

    @property
    def threshold(self) -> float:
        """The output above which a yes is likelier than a no."""
        return 0.0 if self.applies == "sigmoid" else 0.5

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """ShapeError where the network's output does not fit the data's target; `given` is the input's shape."""
        if target.kind not in self.targets:
            raise ShapeError(
                f"{self.type_name} cannot learn {KINDS[target.kind]}, which is the data's target",
                help=CURES[target.kind],
            )
        if target.kind == "mask":
            _check_map(self.type_name, output, given)
        elif len(output) != 1:
            what = "numbers" if target.kind == "values" else "class scores"
            raise ShapeError(
                f"{self.type_name} expects a vector of {what}, got a map of {text(output)}",
                help="end with flatten or global_avg_pool2d, and dense",
            )
        count = len(target.names)
        binary = self.one_output and count == 2 and target.kind in ("class", "mask")
        if count and output[0] != count and not (binary and output[0] == 1):
            what = "value" if target.kind == "values" else "class"
            key = "filters" if target.kind == "mask" else "units"
            raise ShapeError(
                f"expected {count} output{'s' * (count > 1)}, one for each {what} of the data, got {output[0]}",
                help=f"use {key}: {count}",
            )

    def fitted(self, target: Target, outputs: int) -> Self:
        """The same loss, with numbers for all that depends on the names or counts of a network's classes."""
        return self

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
        inference. `target` holds the number of a class for each image (n,) or pixel (h, w, n), or a number for every
        output, of the prediction's shape: values, the portion that belongs to each class, or the network's input.
        """
        raise NotImplementedError

    def least(self, labels: Array, classes: int) -> float:
        """The mean loss of images with these labels (n,) for outputs that fit them as well as any can."""
        return 0.0

    def unlearned(self, labels: Array, classes: int) -> float | None:
        """The mean loss where the network finds all classes equally likely, as it should at first; None if unknown."""
        return None

    def probabilities(self, output: Array) -> Array:
        """Probabilities from one image's outputs (classes, ...): by what `applies` says, or else cut to 0..1."""
        if self.applies == "softmax":
            grown = np.exp(output - output.max(axis=0))
            return np.asarray(grown / grown.sum(axis=0))
        if self.applies == "sigmoid":
            return np.asarray(0.5 + 0.5 * np.tanh(output / 2))
        return np.clip(output, 0, 1)


def _check_map(name: str, output: Shape, given: Shape) -> None:
    if len(output) != 3 or output[1:] != given[1:]:
        raise ShapeError(
            f"{name} expects scores for every pixel, a map of (classes, {given[1]}, {given[2]}), got {text(output)}",
            help="end with a 1x1 conv2d on a map of the input's height and width",
        )


class NamedWeights(dict[str, float]):
    """Weights by the names of classes; those without one count 1."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


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


class ClassScores(Loss):
    """Base of losses on one score for each class, of an image or of every pixel, by way of the softmax."""

    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = "softmax"
    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares", "mask"})

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Shifted logits, their softmax, the target, and some numbers for each image or pixel."""
        of_map = len(output) == 3
        row = (*output[1:], n) if of_map else (n,)
        names = ("row", "counts", "each") if of_map else ("row", "counts")
        whole = {name: Buffer(_batch_shape(output, n)) for name in ("shifted", "softmax", "target")}
        return {**whole, **{name: Buffer(row) for name in names}}


@register("softmax_cross_entropy")
class SoftmaxCrossEntropy(ClassScores):
    """L = -sum_k t_k log softmax(z)_k on logits z; t is 1 at the label. Of a map, the mean over its pixels.

    Label smoothing e makes t = 1 - e + e/K at the label and e/K elsewhere. dL/dz = softmax(z) - t.
    With class weights c an image counts sum_k c_k t_k times, t before the smoothing; the mean still is over the images.
    Weights that are `balanced` are n / (K n_k) for K classes that come n_k times among n training images.
    Source of the smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016).
    """

    label_smoothing: Annotated[Fraction, "how much of the target is spread over all classes"] = 0.0
    class_weights: Annotated[
        ClassWeights | None, "how much an image of each class counts: a list, a mapping from names, or balanced"
    ] = None

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """ShapeError where the output does not fit, or where there are not as many weights as classes."""
        super().check(output, target, given)
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != output[0]:
            raise ShapeError(
                f"expected {output[0]} class_weights, one for each output, got {len(self.class_weights)}",
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
        """Weights by name, or balanced, become a list of numbers, one for each output; 1 where nothing is known."""
        if self.class_weights is None or isinstance(self.class_weights, tuple):
            return self
        if isinstance(self.class_weights, NamedWeights):
            found = [self.class_weights.get(name, 1.0) for name in target.names]
        else:
            total, classes = sum(target.counts), len(target.counts)
            found = [total / (classes * count) if count else 1.0 for count in target.counts]
        return self.but(class_weights=tuple(found + [1.0] * (outputs - len(found))))

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
        portions = _portions(prediction, target, wanted)

        def step() -> None:
            portions()
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
            if weights is not None:
                np.multiply(each, counts, out=each)
            if of_map:
                np.add.reduce(each, axis=(0, 1), out=losses)
                np.divide(losses, pixels, out=losses)
            if gradient is not None:
                np.subtract(softmax, wanted, out=gradient)
                np.multiply(gradient, 1 / (pixels * batch), out=gradient)
                if weights is not None:
                    np.multiply(gradient, np.expand_dims(counts, axis), out=gradient)

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
        if not isinstance(self.class_weights, tuple):
            return 1.0
        weights = np.array(self.class_weights)
        return float((weights[labels] if labels.dtype.kind in "iu" else labels @ weights).mean())


@register("dice")
class Dice(ClassScores):
    """L = 1 - 1/K sum_k (2 sum_p s t + e) / (sum_p s + sum_p t + e) over pixels p, s = softmax(z), e `smooth`.

    Twice what a class's scores and its mask have in common, by what both have: large and small classes count alike.
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
        portions, smooth = _portions(prediction, target, wanted), self.smooth

        def step() -> None:
            portions()
            np.maximum.reduce(prediction, axis=1, out=row)
            np.subtract(prediction, over, out=shifted)
            np.exp(shifted, out=softmax)
            np.add.reduce(softmax, axis=1, out=row)
            np.divide(softmax, over, out=softmax)
            np.multiply(softmax, wanted, out=shifted)
            common = 2 * np.add.reduce(shifted, axis=(0, 2)) + smooth
            whole = np.add.reduce(softmax, axis=(0, 2)) + np.add.reduce(wanted, axis=(0, 2)) + smooth
            np.subtract(1, (common / whole).mean(axis=0), out=losses)
            if gradient is not None:
                np.multiply(wanted, (-2 / classes / whole)[:, None], out=shifted)
                np.add(shifted, (common / classes / whole**2)[:, None], out=shifted)
                np.multiply(shifted, softmax, out=wanted)
                np.add.reduce(wanted, axis=1, out=each)
                np.subtract(shifted, np.expand_dims(each, 1), out=shifted)
                np.multiply(shifted, softmax, out=gradient)
                np.multiply(gradient, 1 / batch, out=gradient)

        return step


def _batch_shape(output: Shape, n: int) -> Shape:
    return (output[1], output[0], output[2], n) if len(output) == 3 else (*output, n)


def _portions(prediction: Array, target: Array, wanted: Array) -> Step:
    """Write to `wanted` what portion of each image or pixel belongs to each class.

    One output stands for the second of two classes.
    """
    if target.ndim == prediction.ndim:
        return lambda: np.copyto(wanted, target)
    axis = 1 if prediction.ndim == 4 else 0
    count = prediction.shape[axis]
    classes = np.arange(count) if count > 1 else np.ones(1, np.int64)
    column = classes.reshape(-1, *(1,) * (prediction.ndim - 1 - axis))
    label = np.expand_dims(target, axis)

    def step() -> None:
        np.equal(column, label, out=wanted)

    return step


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
        shape = _batch_shape(output, n)
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
        find = None if dense else _portions(prediction, target, wanted)

        def step() -> None:
            if find is not None:
                find()
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
