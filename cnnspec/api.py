"""The Python interface: `load` a spec, `compile` it into a `Model`, and train, ask, save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.check import checked
from cnnspec.data import Dataset, open_data
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.layers.base import to_public
from cnnspec.spec import Spec, load
from cnnspec.spec.suggest import did_you_mean
from cnnspec.target import Target
from cnnspec.train.checkpoint import most_bytes, read_checkpoint, restore, write_checkpoint
from cnnspec.train.diagnose import values
from cnnspec.train.fit import fit
from cnnspec.train.network import Network
from cnnspec.train.score import Score

__all__ = ["Model", "compile", "load"]


class Model(Network):
    """A network that trains as its spec says, and that files keep."""

    def fit(self, *, data_dir: Path | None = None, download: bool = False) -> list[dict[str, Any]]:
        """Train on the spec's data; the metrics of every epoch. The moving averages, if any, become the network.

        RunError where the spec has no data or train section or the loss stops being a number, DataError where the data
        cannot be read.
        """
        if self.spec.data is None:
            raise RunError("the spec has no data section", "add data: {source: digits}")
        data = open_data(
            self.spec.data,
            seed=self.spec.seed,
            data_dir=data_dir,
            base=self.spec.base,
            download=download,
            input=self.spec.input,
            output=self.graph.output.shape,
        )
        rows = [epoch.metrics() for epoch in fit(self, data)]
        if self.training is not None:
            self.training.settle()
        return rows

    def predict(self, images: Array) -> Any:
        """The network's output for images (n, c, h, w), an array (n, ...): logits where the loss has the softmax in it.

        Where several losses give the network several outputs, it is a mapping from the losses' names to such arrays.

        With a data section images are pixels from 0 to 255 in any type, of the shape of the training images, or of the
        network's input shape if `preprocess` was done to them; they enter as in training. Without one, numbers enter as
        they are. ValueError with the cure for what is neither. `outputs` takes numbers that are normalised already.
        """
        images = self._entering(images)
        return self.outputs_by_name(images) if self.output_names else self.outputs(images)

    def evaluate(self, images: Array, labels: Array) -> Score:
        """Score the network on images as `predict` takes them, with their labels (class numbers, or what it learns)."""
        images, labels = self._entering(images), np.asarray(labels)
        expected = (len(images), *self.learned.label_shape(self.graph.output.shape))
        if self.learned.kind != "input" and labels.shape != expected:
            raise ValueError(f"expected labels of shape {expected}, got {labels.shape}")
        return self.score(Dataset(images, labels))

    def activations(self, images: Array, layer: str) -> Array:
        """A layer's values (n, c, h, w) or (n, features) for images as `predict` takes them, as inference has them.

        Layers are named as `summary` lists them; ValueError where there is none of that name.
        """
        names = [node.name for node in self.graph.nodes]
        if layer not in names:
            raise ValueError(f"no layer '{layer}': {did_you_mean(layer, names, 'layers')}")
        images = self._entering(images)
        shape = self.graph.node(layer).shape
        found = [
            to_public(output)
            for start in range(0, len(images), self.inference_batch)
            for node, _, output in values(self, images[start : start + self.inference_batch], "infer")
            if node.name == layer
        ]
        return np.concatenate(found) if found else np.empty((0, *shape), self.weights.values.dtype)

    def _entering(self, images: Array) -> Array:
        images = np.asarray(images)
        return self.pipeline.images(images) if self.pipeline else images

    def save(self, path: str | Path) -> None:
        """Write the weights to an .npz file, with what training found of its images."""
        found = self.pipeline.record() if self.pipeline else {}
        write_checkpoint(Path(path), self.weights, None, {"target": self.target.record(), **found})

    def load(self, path: str | Path) -> None:
        """Read weights that `save` or a training wrote, of the latter the moving averages if there are any.

        RunError where they do not fit this network.
        """
        checkpoint = read_checkpoint(Path(path), most_bytes(self.weights, self.training))
        if self.pipeline is not None and "pipeline" in checkpoint.progress:
            self.pipeline = self.pipeline.restored(checkpoint.progress, path)
        restore(checkpoint, self.weights, None)
        self.adopt(Target.of(checkpoint.progress.get("target", {})))


def compile(
    spec: Spec | str | Path,
    overrides: Sequence[str] = (),
    *,
    threads: int | None = None,
    plugins: Sequence[str | Path] = (),
) -> Model:
    """Read a spec, check all that `validate` checks, and make a model with fresh weights.

    `plugins` are files that register layers and the like; those that the spec names run too. SpecError with every
    finding, each with its place; PluginError where one of `plugins` cannot be used.
    """
    if not isinstance(spec, Spec):
        spec = load(spec, overrides, plugins=plugins, allow_plugins=True)
    return Model(spec, checked(spec), threads=threads)
