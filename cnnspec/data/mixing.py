"""Augmentations that mix pairs of images, and their labels in the same proportions."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from cnnspec.data.augmentation import Augmentation, boxes
from cnnspec.fields import PositiveNumber
from cnnspec.kernels.step import Array
from cnnspec.registry import register

PARTS = 256  # shares are whole numbers of these, so that pixels are mixed in 16 bits


class Mixture(Augmentation):
    """Base of these augmentations; each image is mixed with another one that is made at the same time."""

    mixes_labels = True
    alpha: Annotated[PositiveNumber, "shares are drawn from Beta(alpha, alpha)"]

    def apply(self, pixels: Array, random: np.random.Generator) -> None:
        """Mix images without labels."""
        self.mix(pixels, np.zeros((1, len(pixels)), np.float32), random)


@register("mixup")
class Mixup(Mixture):
    """x = s x1 + (1 - s) x2, and targets alike.

    Source: Zhang et al., "mixup: beyond empirical risk minimization" (2018).
    """

    alpha: Annotated[PositiveNumber, "shares are drawn from Beta(alpha, alpha)"] = 0.2

    def mix(self, pixels: Array, targets: Array, random: np.random.Generator) -> None:
        """Mix each image with its partner, in a random share of its own."""
        n = len(pixels)
        partner = random.permutation(n)
        parts = np.rint(PARTS * random.beta(self.alpha, self.alpha, n)).astype(np.uint16)
        weights, other = parts.reshape(n, 1, 1, 1), (PARTS - parts).reshape(n, 1, 1, 1)
        total = pixels * weights
        total += pixels[partner] * other
        total += PARTS // 2
        total >>= 8
        np.copyto(pixels, total, casting="unsafe")
        _share(targets, parts / np.float32(PARTS), partner)


@register("cutmix")
class Cutmix(Mixture):
    """A box of every image comes from its partner; the targets are mixed by the areas.

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers" (2019).
    """

    alpha: Annotated[PositiveNumber, "shares are drawn from Beta(alpha, alpha)"] = 1.0

    def mix(self, pixels: Array, targets: Array, random: np.random.Generator) -> None:
        """Paste a box from each image's partner, of sqrt(1 - s) of its height and width before edges clip it."""
        n, _, h, w = pixels.shape
        partner = random.permutation(n)
        side = np.sqrt(1 - random.beta(self.alpha, self.alpha, n))
        box = boxes(h, w, np.rint(h * side).astype(np.int64), np.rint(w * side).astype(np.int64), random)
        np.copyto(pixels, pixels[partner], where=box[:, None])
        _share(targets, (1 - box.mean(axis=(1, 2))).astype(np.float32), partner)


def _share(targets: Array, own: Array, partner: Array) -> None:
    targets[...] = targets * own + targets[:, partner] * (1 - own)
