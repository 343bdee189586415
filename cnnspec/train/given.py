"""Arrays of a caller in the place of a data source: checked, and divided into training and validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.data import Dataset, Inputs, Pipeline
from cnnspec.data.rows import Pixels
from cnnspec.data.split import stratified
from cnnspec.kernels.step import Array
from cnnspec.target import VOID, Target, measured
from cnnspec.train.network import Network

Labels = Pixels | Sequence[object] | Mapping[str, Array]
Entering = Pixels | Mapping[str, Array]  # images, or the arrays of several inputs by name


@dataclass(frozen=True, slots=True)
class Given:
    """Images and labels of a caller in Python, as `fit` takes them; there is no test split."""

    train: Dataset
    validation: Dataset | None
    target: Target
    pipeline: Pipeline | None
    test: None = None


def given(
    network: Network, x: Entering, y: Labels | None, validation: tuple[Entering, Labels | None] | float | None = None
) -> Given:
    """Check images (n, c, h, w) and labels; the validation images are a fraction of them, or other arrays.

    Images have the form that `Model.predict` takes. ValueError with the cure for arrays that do not fit: empty ones,
    other lengths, labels that are no class of the network, fractional or not finite.
    """
    if network.pipeline is not None and isinstance(x, Mapping):
        network.pipeline = network.pipeline.seen(x)
    images = entering(network, x)
    labels = checked_labels(network, len(images), y)
    if isinstance(validation, tuple):
        other = entering(network, validation[0])
        held_out = Dataset(other, checked_labels(network, len(other), validation[1]))
        train = Dataset(images, labels)
    elif validation is not None:
        train, held_out = _split_off(network, Dataset(images, labels), validation)
    else:
        train, held_out = Dataset(images, labels), None
    kind = network.target.kind
    names = network.target.names if kind in ("class", "mask", "classes", "values", "shares") else ()
    target = network.target if kind == "several" else measured(kind, names, train.labels)
    return Given(train, held_out, target, network.pipeline)


def entering(network: Network, x: Entering) -> Array:
    """Convert images for a network: to prepared bytes as the data section says, otherwise numbers stay the same.

    The numbers of several inputs are joined, one input behind the other.
    """
    if network.spec.inputs or isinstance(x, Mapping):
        images = _as_one_array(network, x)
        if len(images) == 0:
            raise ValueError("expected arrays of at least one row, got none")
        return images
    images = np.asarray(x)
    if images.ndim == 0 or len(images) == 0:
        raise ValueError(f"expected images (n, ...), at least one, got an array of shape {images.shape}")
    if network.pipeline is not None:
        return network.pipeline.images(images)
    if images.dtype.kind not in "biuf":
        raise ValueError(f"expected images of numbers, got {images.dtype}")
    shape = network.graph.input_shape
    if images.shape[1:] != shape:
        raise ValueError(f"expected images of shape (n, {', '.join(map(str, shape))}), got {images.shape}")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError("expected images of finite numbers, got some that are infinite or not a number")
    return images if images.dtype == np.uint8 else images.astype(network.weights.values.dtype)


def _as_one_array(network: Network, x: Entering) -> Array:
    if network.pipeline is not None:
        return network.pipeline.images(x if isinstance(x, Mapping) else np.asarray(x))
    if not network.spec.inputs:
        raise ValueError("expected an array of images, got a mapping: the network has one input")
    if isinstance(x, Mapping):  # bytes are numbers too if no data section makes them pixels
        x = {name: np.asarray(array) for name, array in x.items()}
        x = {name: array.astype(np.float32) if array.dtype == np.uint8 else array for name, array in x.items()}
    return Inputs(network.spec.inputs, frozenset()).joined(x)


def checked_labels(network: Network, count: int, y: Labels | None) -> Array:
    """Convert the labels of `count` images to the form of the network's target; ValueError if they do not fit."""
    kind = network.learned.kind
    if kind in ("input", "none"):
        return np.zeros(count, np.int64)
    if y is None:
        raise ValueError("expected labels y, one for each image: the loss compares outputs with them")
    if kind == "several":
        return _several(network, count, y)
    return _of_kind(network.learned, network.graph.output.shape, count, np.asarray(y))


def _several(network: Network, count: int, y: Labels) -> Array:
    """Join the labels of all targets, a mapping from their names, side by side."""
    parts = network.target.parts
    if not isinstance(y, Mapping) or y.keys() != parts.keys():
        got = ", ".join(y) if isinstance(y, Mapping) else "an array"
        raise ValueError(f"expected y with labels by name, for {', '.join(parts)}, got {got}")
    columns = []
    assert network.heads is not None
    outputs = network.heads.losses.outputs_by_target()
    for name, part in parts.items():
        try:
            labels = _of_kind(part, (outputs[name],), count, np.asarray(y[name]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        columns.append(labels.reshape(count, -1).astype(np.float32))
    return np.concatenate(columns, axis=1)


def _of_kind(target: Target, output: tuple[int, ...], count: int, labels: Array) -> Array:
    expected = (count, *target.label_shape(output))
    if labels.shape == (*expected, 1):
        labels = labels[..., 0]
    if len(labels) != count:
        raise ValueError(f"expected a label for each of {count:,} images, got {len(labels):,}")
    if labels.shape != expected:
        raise ValueError(f"expected labels of shape {expected}, got {labels.shape}")
    if labels.dtype.kind not in "biuf":
        cure = "number the classes, as numpy.unique(y, return_inverse=True) does"
        raise ValueError(f"expected labels of numbers, got {labels.dtype}: {cure}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("expected labels of finite numbers, got some that are infinite or not a number")
    if target.kind in ("class", "mask"):
        classes = 2 if output[0] == 1 else output[0]
        if target.kind == "mask" and classes < VOID:
            return np.where(labels == VOID, VOID, _classes(np.where(labels == VOID, 0, labels), classes))
        return _classes(labels, classes)
    if target.kind == "classes" and not np.isin(labels, (0, 1)).all():
        raise ValueError("expected labels of 0 and 1, whether each class applies, got others")
    if target.kind == "shares" and (labels.min() < 0 or np.abs(labels.sum(axis=1) - 1).max() > 1e-3):
        raise ValueError("expected a probability for each class, in all 1 an image, got others")
    return labels.astype(target.dtype)


def _classes(labels: Array, classes: int) -> Array:
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise ValueError(f"expected classes as whole numbers, got {labels[whole != labels].flat[0]:g}")
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high >= classes:
        cure = ": take 1 from all, as classes count from 0" if (low, high) == (1, classes) else ""
        raise ValueError(f"expected classes from 0 to {classes - 1}, one for each output, got {low} to {high}{cure}")
    return whole


def _split_off(network: Network, whole: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Divide images into training images and a fraction of each class to validate, chosen by the spec's seed."""
    held_out = round(fraction * len(whole))
    if not 0 < held_out < len(whole):
        raise ValueError(f"expected a validation share that leaves images to train, got {fraction} of {len(whole):,}")
    chosen = stratified(whole.labels, held_out, network.spec.seed, leave=1)
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    pixels = np.asarray(whole.pixels)
    return Dataset(pixels[rest], whole.labels[rest]), Dataset(pixels[chosen], whole.labels[chosen])
