"""Synthetic images, for trying a spec without data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import numpy as np

from cnnspec.data.drawings import VALUES, drawings
from cnnspec.data.inputs import Inputs
from cnnspec.data.source import Found, Images, Source, flat_names, numbered, side_by_side
from cnnspec.data.store import MEMORY, Store
from cnnspec.fields import ClassCount, ImageShape, NonNegativeInt, PositiveInt, TargetKinds, UnitInterval
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape
from cnnspec.target import Kind, Target

COARSE = 4  # rows and columns of the random pattern that makes a class


@register("synthetic")
class Synthetic(Source):
    """Images by a seed: a soft pattern for each class, with noise that makes it easy or hard to learn.

    With `target: classes` several patterns lie over one another, with `shares` two, in those portions. With
    `target: values` there is one disc an image, whose place and size are the values; with `mask` there is one shape of
    every class but 0, which is what lies behind them. Several targets by name, `{kind: class, place: values}`, lie over
    one another. Of several inputs each shows a part of what the class is, so that none tells it alone.
    """

    own_files = False
    several_inputs = True
    shape: Annotated[ImageShape, "channels, height, width"] = (1, 28, 28)
    classes: Annotated[ClassCount, "number of classes"] = 10
    target: Annotated[TargetKinds, "what the labels are, or a mapping from names of several targets"] = "class"
    train: Annotated[PositiveInt, "training images"] = 1000
    test: Annotated[PositiveInt, "test images"] = 200
    noise: Annotated[UnitInterval, "share of the noise in each pixel"] = 0.5
    seed: Annotated[NonNegativeInt, "of patterns, noise and labels"] = 0

    @property
    def image_shape(self) -> Shape:
        """The shape that the spec declares."""
        return self.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """The numbers of the classes, or the names of the values."""
        return flat_names(self.targets) if isinstance(self.target, Mapping) else self._names(self.target)

    def _names(self, target: str) -> tuple[str, ...]:
        return VALUES if target == "values" else numbered(self.classes)

    @property
    def target_kind(self) -> Kind:
        """The kind of target that the spec declares."""
        return "several" if isinstance(self.target, Mapping) else cast(Kind, self.target)

    @property
    def targets(self) -> Mapping[str, Target]:
        """The named targets that the spec declares; empty if it declares a single one."""
        if not isinstance(self.target, Mapping):
            return {}
        return {name: Target(cast(Kind, kind), self._names(kind)) for name, kind in self.target.items()}

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of images in each split, as the spec declares it."""
        return {"train": self.train, "test": self.test}

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Make the images; classes come in turn, so that their counts differ by at most one."""
        if isinstance(self.target, Mapping):
            return self._over_one_another(self.target)
        patterns = self._patterns(self.shape, [self.seed, 0])
        splits = {split: self._images(patterns, count, 1 + i) for i, (split, count) in enumerate(self.counts.items())}
        return Found(splits, {}, self.class_names, kind=self.target_kind)

    def read_inputs(self, inputs: Inputs, root: Path | None) -> Found:
        """Make pictures of bytes and vectors of numbers from 0 to 1; each shows one digit of the class's number.

        With k inputs the digits are those to the smallest base whose k-th power is at least the number of classes.
        """
        base, splits = 1, {}
        while base ** len(inputs.shapes) < self.classes:
            base += 1
        for stream, (split, count) in enumerate(self.counts.items(), 1):
            random = np.random.default_rng([self.seed, stream])
            labels = random.permutation(np.arange(count) % self.classes).astype(np.int64)
            arrays = {}
            for position, (name, shape) in enumerate(inputs.shapes.items()):
                seed, digits = [self.seed, 0, position], labels // base**position % base
                if len(shape) == 3:
                    arrays[name] = self._noisy(self._patterns(shape, seed), digits, random)
                    continue
                levels = np.random.default_rng(seed).random((base, *shape))
                numbers = (1 - self.noise) * levels[digits] + self.noise * random.random((count, *shape))
                arrays[name] = numbers.astype(np.float32)
            inputs = inputs.seen(arrays)
            splits[split] = Images(inputs.joined(arrays), labels)
        return Found(splits, {}, self.class_names, inputs=inputs)

    def _patterns(self, shape: Shape, seed: list[int]) -> Array:
        """Return a smooth random pattern (c, h, w) of bytes for each class."""
        c, h, w = shape
        coarse = np.random.default_rng(seed).integers(0, 256, (self.classes, c, COARSE, COARSE))
        down, across = _interpolation(h), _interpolation(w).T
        return np.asarray(np.rint(down @ coarse.astype(np.float32) @ across), np.uint8)

    def _over_one_another(self, targets: Mapping[str, str]) -> Found:
        """Return images that are the mean of one image for each target, each target with a seed of its own."""
        single = [
            self.but(target=kind, seed=self.seed + i).read(None, False) for i, kind in enumerate(targets.values())
        ]
        splits = {}
        for split in self.counts:
            parts = [source.splits[split] for source in single]
            pixels = np.mean([part.pixels for part in parts], axis=0, dtype=np.float32)
            splits[split] = Images(
                np.rint(pixels).astype(np.uint8), side_by_side([np.asarray(part.labels) for part in parts])
            )
        return Found(splits, {}, self.class_names, kind="several", targets=self.targets)

    def _images(self, patterns: Array, count: int, stream: int) -> Images:
        random = np.random.default_rng([self.seed, stream])
        if self.target in ("values", "mask"):
            classes = self.classes if self.target == "mask" else 2
            drawn = drawings(self.shape, count, classes, self.noise, random)
            return Images(drawn.pixels, drawn.maps if self.target == "mask" else drawn.values)
        if self.target != "class":
            return self._several(patterns, count, random)
        labels = random.permutation(np.arange(count) % self.classes)
        return Images(self._noisy(patterns, labels, random), labels.astype(np.int64))

    def _noisy(self, patterns: Array, labels: Array, random: np.random.Generator) -> Array:
        """Return the pattern of each label mixed with noise, as bytes (n, c, h, w)."""
        count = len(labels)
        pixels = random.integers(0, 256, (count, *patterns.shape[1:]), dtype=np.uint8)
        share = round(256 * self.noise)
        for start in range(0, count, 1024):  # in parts, to keep the copy in a wider type small
            part = slice(start, start + 1024)
            mixed = pixels[part].astype(np.uint16) * share + patterns[labels[part]].astype(np.uint16) * (256 - share)
            pixels[part] = mixed >> 8
        return pixels

    def _several(self, patterns: Array, count: int, random: np.random.Generator) -> Images:
        """Return images that are the weighted mean of several patterns; the labels say which, or in which shares."""
        if self.target == "classes":
            labels = (random.random((count, self.classes)) < 0.5).astype(np.float64)
            weights = labels / np.maximum(labels.sum(axis=1, keepdims=True), 1)
        else:
            classes_of_images = random.random((count, self.classes)).argsort(axis=1)[:, :2]
            portions = random.random((count, 1))
            weights = np.zeros((count, self.classes))
            pair = np.concatenate((portions, 1 - portions), axis=1)[:, : classes_of_images.shape[1]]
            np.put_along_axis(weights, classes_of_images, pair / pair.sum(axis=1, keepdims=True), axis=1)
            labels = weights
        shown = np.tensordot(weights, patterns, 1)
        levels = (1 - self.noise) * shown + self.noise * random.integers(0, 256, shown.shape)
        return Images(np.rint(levels).astype(np.uint8), labels.astype(np.float32))


def _interpolation(length: int) -> Array:
    """Return the matrix (length, COARSE) that interpolates linearly between the centres of coarse pixels."""
    centres = np.clip((np.arange(length) + 0.5) * (COARSE / length) - 0.5, 0, COARSE - 1)
    weights: Array = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(COARSE))).astype(np.float32)
    return weights
