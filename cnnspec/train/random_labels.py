"""Made-up labels, to check gradients and to learn a few images by heart."""

from __future__ import annotations

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape
from cnnspec.target import Target
from cnnspec.train.network import Network


def random_labels(network: Network, images: Array, random: np.random.Generator) -> Array:
    """Make labels of images (n, c, h, w) in 0..1 for a network, with values in the units of the loss."""
    target = network.learned
    if target.kind != "several":
        return _labels(target, network.graph.output.shape, images, random)
    assert network.heads is not None
    lengths = network.heads.losses.outputs_by_target()
    parts = [_labels(part, (lengths[name],), images, random) for name, part in target.parts.items()]
    return np.concatenate([labels.reshape(len(images), -1) for labels in parts], axis=1)


def _labels(target: Target, output: Shape, images: Array, random: np.random.Generator) -> Array:
    """Make labels of one target for a network with that output.

    Images have the classes in turn. The class of a pixel is its brightness, so that a small network can learn it,
    most easily if there are as many levels of brightness as classes.
    """
    n, outputs = len(images), output[0]
    classes = max(outputs, 2)  # one output serves two classes
    match target.kind:
        case "mask":
            return np.asarray(np.minimum(images[:, 0] * classes, classes - 1), np.uint8)
        case "values":
            return random.standard_normal((n, outputs))
        case "classes":
            return random.integers(0, 2, (n, outputs)).astype(np.float64)
        case "shares":
            return np.equal(np.arange(outputs), np.arange(n)[:, None] % outputs).astype(np.float64)
        case "class" if len(output) == 1:
            return np.arange(n) % classes
    return np.zeros(n, np.int64)
