"""The initializer that learns from the training images, before the first step."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import PositiveInt, PositiveNumber
from cnnspec.kernels.step import Array
from cnnspec.optim.initializers import Initializer, Orthogonal
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


@register("from_data")
class FromData(Initializer):
    """Filters of the first convolution that whiten patches of the training images: v / sqrt(l + epsilon).

    v and l are the eigenvectors and eigenvalues of the patches' second moments, the largest first; the second half of
    the filters are the negatives of the first half. `train` computes them once before the first step, and checkpoints
    hold them; `trainable: false` keeps them so. Without images, as in `summary`, they are orthogonal.
    Source: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024).
    """

    from_images: ClassVar[bool] = True

    images: Annotated[PositiveInt, "training images that are looked at, drawn by the seed"] = 5000
    epsilon: Annotated[PositiveNumber, "added to the eigenvalues, so that noise is not blown up"] = 5e-4

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write orthogonal filters, which remain if there are no images to learn from."""
        Orthogonal().fill(array, fans, random)

    def check(self, shape: Shape) -> None:
        """ShapeError for a bias, and for more filters than there are eigenvectors with both signs."""
        if len(shape) != 4:
            raise ShapeError(f"from_data needs the filters of a convolution, this is {text(shape)}", help="use zeros")
        most_filters = 2 * prod(shape[1:])
        if shape[0] > most_filters:
            message = (
                f"from_data: expected at most {most_filters} filters for patches of {text(shape[1:])}, got {shape[0]}"
            )
            raise ShapeError(message, help=f"use filters: {most_filters}, or a larger kernel_size")

    def learn(self, array: Array, moments: Array) -> None:
        """Write the filters (f, c, kh, kw) for second moments (c kh kw, c kh kw) of patches."""
        values, vectors = np.linalg.eigh(moments)
        values, vectors = values[::-1], vectors[:, ::-1].T
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
        scaled = vectors * np.sign(largest) / np.sqrt(np.maximum(values, 0) + self.epsilon)[:, None]
        half = -(-len(array) // 2)
        array[...] = np.concatenate([scaled[:half], -scaled[: len(array) - half]]).reshape(array.shape)
