"""Filters that are learned from the training images before the first step: they whiten patches."""

from __future__ import annotations

from math import prod

import numpy as np

from cnnspec.data import Dataset
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.kernels.step import Array
from cnnspec.optim.from_data import FromData
from cnnspec.train.network import Network

PART = 64  # the images whose patches are in memory at once


def learn_first_filters(network: Network, images: Dataset) -> None:
    """Fill the parameters whose initializer learns from images, if there are any.

    The images are drawn by the seed alone, so the same training begins with the same bits.
    """
    for slot in network.weights.slots:
        initializer = slot.node.params[slot.name].initializer
        if not isinstance(initializer, FromData):
            continue
        count = min(initializer.images, len(images))
        random = np.random.default_rng([network.spec.seed, 3])
        chosen = np.sort(random.permutation(len(images))[:count])
        dilation = getattr(slot.node.layer, "dilation", (1, 1))
        with one_blas_thread:
            moments = _moments(network, images, chosen, slot.shape[2:], dilation)
            initializer.learn(network.weights.params[slot.key], moments)
        network.weights.version += 1


def _moments(
    network: Network, images: Dataset, chosen: Array, kernel: tuple[int, ...], dilation: tuple[int, int]
) -> Array:
    """The second moments (c kh kw, c kh kw) of patches: means of products of two of their numbers, in float64."""
    size = network.graph.input_shape[0] * prod(kernel)
    total, patches = np.zeros((size, size)), 0
    scale, shift = (1.0, 0.0) if network.pixels is None else (part.reshape(-1, 1, 1) for part in network.pixels)
    down, across = dilation
    for start in range(0, len(chosen), PART):
        pixels = np.asarray(images.pixels[chosen[start : start + PART]])
        x = pixels * scale + shift if pixels.dtype == np.uint8 else pixels.astype(np.float64)
        reach = tuple((length - 1) * step + 1 for length, step in zip(kernel, dilation, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))[..., ::down, ::across]
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, size)
        total += rows.T @ rows
        patches += len(rows)
    return total / patches
