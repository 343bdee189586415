"""The base of losses: the targets that a loss fits, and how targets become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np

from cnnspec.fields import Declaration
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.target import KINDS, VOID, Kind, Target

CURES: Mapping[Kind, str] = {
    "class": "use softmax_cross_entropy",
    "shares": "use softmax_cross_entropy",
    "classes": "use binary_cross_entropy",
    "values": "use mean_squared_error, mean_absolute_error or huber",
    "mask": "use softmax_cross_entropy or dice",
    "input": "leave out target: input",
    "none": "use kl_divergence or mean_output",
    "several": "write train: {losses: {...}} with a loss for each of them",
}


class Loss(Declaration):
    """Base of all losses. The loss of a batch is the mean over its images."""

    kind: ClassVar[str] = "loss"
    applies: ClassVar[Literal["softmax", "sigmoid"] | None] = None  # the function that turns outputs into probabilities
    targets: ClassVar[frozenset[Kind]] = frozenset({"class", "shares"})  # the targets that it can compare outputs with
    one_output: ClassVar[bool] = False  # whether one output can serve two classes
    reads: ClassVar[int] = 1  # how many values of the network it reads, such as a mean and a variance
    names: ClassVar[tuple[str, ...]] = ()  # of the losses that a sum consists of; each has a buffer for its own values

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return False

    @property
    def reads_labels(self) -> bool:
        """Whether an image's labels are the target."""
        return not self.reads_input and "none" not in self.targets

    def learned(self, target: Target) -> Target:
        """The target that outputs are compared with, for the data's target."""
        return target if self.reads_labels else Target("input")

    def answer(self, prediction: Array) -> Array:
        """The part of the prediction that decides about an image's class; by default all of it."""
        return prediction

    def label_shape(self, target: Target, output: Shape) -> Shape:
        """The shape of one image's labels for a network with that output."""
        return target.label_shape(output)

    @property
    def threshold(self) -> float:
        """The output above which "yes" is likelier than "no"."""
        return 0.0 if self.applies == "sigmoid" else 0.5

    def check(self, output: Shape, target: Target, given: Shape) -> None:
        """Raise ShapeError if the network's output does not fit the data's target; `given` is the input's shape."""
        if target.kind not in self.targets:
            raise ShapeError(
                f"{self.type_name} cannot learn {KINDS[target.kind]}, which is the data's target",
                help=CURES[target.kind],
            )
        if target.kind == "mask":
            _check_map(self.type_name, output, given)
        elif len(output) != 1:
            noun = "numbers" if target.kind == "values" else "class scores"
            raise ShapeError(
                f"{self.type_name} expects a vector of {noun}, got a map of {text(output)}",
                help="end with flatten or global_avg_pool2d, and dense",
            )
        count = len(target.names)
        binary = self.one_output and count == 2 and target.kind in ("class", "mask")
        if count and output[0] != count and not (binary and output[0] == 1):
            noun = "value" if target.kind == "values" else "class"
            key = "filters" if target.kind == "mask" else "units"
            raise ShapeError(
                f"expected {count} output{'s' * (count > 1)}, one for each {noun} of the data, got {output[0]}",
                help=f"use {key}: {count}",
            )

    def fitted(self, target: Target, outputs: int) -> Self:
        """This loss with numbers in the place of all settings that depend on the names or counts of classes."""
        return self

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """The scratch arrays that `bind` needs for n images, by name."""
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
        """Bind the computation of every image's loss, losses (n,), and of the gradient of the mean over `batch` images.

        The gradient has the shape of the prediction, (features, n), or (h, c, w, n) if the network ends in a map; it is
        None at inference. `target` holds the number of a class for each image (n,) or pixel (h, w, n), or a number for
        every output, in the prediction's shape: values, the portion of each class, or the network's input.
        """
        raise NotImplementedError

    def least(self, labels: Array, classes: int, images: Array | None = None) -> float:
        """The lowest mean loss that any outputs can have on images with these labels (n,)."""
        return 0.0

    def unlearned(self, labels: Array, classes: int) -> float | None:
        """The mean loss of a network that finds all classes equally likely, as it should at first; None if unknown."""
        return None

    def probabilities(self, output: Array) -> Array:
        """The probabilities of one image's outputs (classes, ...): by the function of `applies`, or clipped to 0..1."""
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


def batch_shape(output: Shape, n: int) -> Shape:
    """The shape of n outputs in a plan: (h, c, w, n) for a map (c, h, w), (features, n) for a vector."""
    return (output[1], output[0], output[2], n) if len(output) == 3 else (*output, n)


def counted_pixels(target: Array) -> Array | None:
    """The mask of the pixels (h, w, n) that have a class; None if all of them have one."""
    return target != VOID if target.size and target.max() == VOID else None


def class_portions(prediction: Array, target: Array, wanted: Array) -> Step:
    """The step that writes to `wanted` the portion of each image or pixel that belongs to each class.

    A single output stands for the second of two classes.
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
