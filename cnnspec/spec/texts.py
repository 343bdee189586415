"""Descriptions of keys that no class declares, in a line each, for the schema and the editors that show it."""

from __future__ import annotations

KEYS: dict[str, str] = {
    "type": "what it is",
    "layers": "the layers, from top to bottom: names, mappings with a type, uses of blocks",
    "blocks": "lists of layers with a name and parameters, which are used like a layer",
    "vars": "names for values, which are read as $name or in ${arithmetic}",
    "expect": "figures of the network that are checked before training: exact values, or min and max",
    "require": "figures that a trained network must reach, such as test.accuracy: '>= 0.98'",
    "params": "the learned numbers in the network",
    "trained_params": "the learned numbers that training changes",
    "macs": "multiply-accumulates of one image's forward pass",
    "output": "the shape of the network's output",
    "train_memory": "memory of a training step at the spec's batch size, such as 64 MiB",
    "infer_memory": "memory of inference at the spec's batch size, such as 64 MiB",
    "min": "the least that is allowed",
    "max": "the most that is allowed",
    "id": "its name, by which layers below read it",
    "from": "what it reads; the layer above by default",
    "when": "leaves it out where false",
    "body": "the layers whose output is added to the input",
    "shortcut": "how the input gets to the sum: as it is, through a projection, or not at all",
    "branches": "lists of layers that read the same input",
    "merge": "how the outputs of the branches become one",
    "parts": "how many equal parts",
    "sizes": "the channels of each part",
    "use": "the block whose layers are put here",
    "with": "values for the parameters of the block",
    "repeat": "how many times the block is put here, one behind the other",
    "first": "values for the parameters of the block in its first repetition",
    "last": "values for the parameters of the block in its last repetition",
}

_FIGURES = {
    "loss": "the loss",
    "accuracy": "the share of images whose class is found",
    "precision": "of what is said to be a class, the share that is; the mean over classes",
    "recall": "of what is a class, the share that is found; the mean over classes",
    "f1": "the harmonic mean of precision and recall; the mean over classes",
    "top_k": "the share of images whose class is among the k most likely ones",
    "mean_average_precision": "the area below precision over recall; the mean over classes",
    "mean_iou": "intersection over union of found and true pixels; the mean over classes",
    "mae": "the mean absolute error",
    "rmse": "the root of the mean squared error",
    "r2": "the share of the variance that is explained",
}


def metric(name: str) -> str:
    """Return the meaning of a metric such as test.accuracy."""
    split, _, figure = name.partition(".")
    return f"{_FIGURES.get(figure, figure.replace('_', ' '))}, of the {split} images"
