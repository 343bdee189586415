"""Test-time augmentation: the outputs for several views of each image, averaged to one answer."""

from __future__ import annotations

import numpy as np

from cnnspec.data import Dataset
from cnnspec.data.views import Views
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.train.network import Network
from cnnspec.train.score import Score, Tally

KINDS = ("class", "shares", "classes", "values")  # the kinds of targets with one answer for a whole image


def require_views(network: Network) -> None:
    """Raise RunError if a network's answers to several views of an image cannot be averaged."""
    kind = network.learned.kind
    several = network.heads is not None and len(network.heads.parts) > 1
    if several or kind not in KINDS or len(network.graph.output.shape) != 1:
        raise RunError("test-time augmentation averages one answer for each image: this network gives more", CURE)
    if len(network.graph.input_shape) != 3:
        raise RunError("test-time augmentation moves the pixels of images: this network reads vectors", CURE)


CURE = "leave data.tta out, or give --tta none"


def mean_outputs(network: Network, images: Array, views: Views) -> Array:
    """Outputs (n, k) whose probabilities are means over all views; for values, the means of the outputs.

    They are logarithms of probabilities, or of odds for a sigmoid, so that they can be read like any other outputs.
    """
    require_views(network)
    loss, values = network.loss, network.learned.kind == "values"
    total = np.zeros((len(images), *network.graph.output.shape))
    for view in views.shown(images):
        outputs = network.outputs(np.ascontiguousarray(view)).astype(np.float64)
        total += outputs if values or loss is None else loss.probabilities(outputs.T).T
    mean = total / views.count
    applies = None if loss is None or values else loss.applies
    least = np.finfo(np.float64).tiny
    if applies == "softmax":
        mean = np.log(np.maximum(mean, least))
    elif applies == "sigmoid":
        mean = np.log(np.maximum(mean, least)) - np.log(np.maximum(1 - mean, least))
    return mean.astype(network.weights.values.dtype)


def mean_score(network: Network, dataset: Dataset, views: Views) -> Score:
    """Score a network by its mean outputs for several views of each image, the loss included."""
    require_views(network)
    loss, kind, weight = network.loss, network.learned.kind, 1.0
    if network.heads is not None:  # one loss is left outside of training
        only = network.heads.parts[network.heads.main]
        loss, weight = only.loss, only.weight
    tally = Tally(kind, network.graph.output.shape[0], network.spec.train.top_k if network.spec.train else 5)
    for start in range(0, len(dataset), network.inference_batch):
        part = slice(start, start + network.inference_batch)
        labels = dataset.labels[part]
        outputs = mean_outputs(network, dataset.pixels[part], views)
        losses = np.zeros(len(outputs), outputs.dtype)
        if loss is not None:
            scaled = network.target.scaled(outputs) if kind == "values" else outputs
            prediction, target = np.ascontiguousarray(scaled.T), np.ascontiguousarray(network.target.scaled(labels).T)
            target = target if target.ndim == 1 else target.astype(prediction.dtype)
            scratch = {
                name: np.empty(buffer.shape, buffer.dtype or prediction.dtype)
                for name, buffer in loss.scratch(outputs.shape[1:], len(outputs)).items()
            }
            loss.bind(prediction, target, None, losses, scratch, len(outputs))()
            losses *= weight
        tally.add(start, losses, labels, _decided(network, outputs), outputs)
    return tally.score(has_loss=loss is not None)


def _decided(network: Network, outputs: Array) -> Array:
    """Decide by outputs: the class of each image (n,), or whether each label applies (n, k)."""
    threshold = 0.5 if network.loss is None else network.loss.threshold
    if network.learned.kind == "classes":
        return np.asarray(outputs > threshold)
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(axis=1))
    return np.asarray(outputs[:, 0] > threshold).astype(np.int64)
