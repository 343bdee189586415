"""The Python interface: `compile` a spec into a `Model`, train it, ask it, save it, and `load` it again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec import __version__
from cnnspec.callbacks import Callback, ProgressLine, StopTraining, watched
from cnnspec.check import checked
from cnnspec.data import Data, Dataset, Inputs, open_data
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.graph.overview import overview, overview_html
from cnnspec.graph.render import render
from cnnspec.kernels.step import Array
from cnnspec.layers.base import to_public
from cnnspec.plan.state.parameters import fill
from cnnspec.plugins import check_kept
from cnnspec.shapes import text
from cnnspec.spec import Spec, loads
from cnnspec.spec import load as load_spec
from cnnspec.spec.suggest import did_you_mean
from cnnspec.target import Target
from cnnspec.train.checkpoint import Checkpoint, most_bytes, read_checkpoint, restore, superseded, write_checkpoint
from cnnspec.train.diagnose import values
from cnnspec.train.fit import Progress, Splits, fit
from cnnspec.train.given import Entering, Labels, checked_labels, entering, given
from cnnspec.train.network import Network
from cnnspec.train.origin import origin, require_origin
from cnnspec.train.records import read_about, read_spec
from cnnspec.train.run import ABOUT, SPEC, no_run
from cnnspec.train.score import Score

__all__ = ["Model", "compile", "load", "load_spec"]


class Model(Network):
    """A network that is trained as its spec says, and can be saved to files."""

    def fit(
        self,
        x: Entering | None = None,
        y: Labels | None = None,
        *,
        validation: tuple[Entering, Labels | None] | float | None = None,
        epochs: float | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
        data_dir: Path | None = None,
        download: bool = False,
    ) -> list[dict[str, Any]]:
        """Train as the spec says, and return a row of metrics for each epoch.

        Without `x` the spec's own data is read, from `data_dir` if that is given. With `x` and `y` these arrays are
        trained on: images (n, c, h, w) as `predict` takes them, or a mapping from names to arrays where there are
        several inputs, and labels as the loss compares them: classes (n,), numbers (n, k), maps (n, h, w), or a mapping
        from names to labels where there are several losses. `validation` is a share of them that is set apart, such as
        0.1, or images and labels of its own. `epochs` changes the spec's. A further call trains on from the weights
        that are there. The moving averages, if any, become the network. `progress` shows a line; by default where
        standard error is a terminal or a notebook's cell.

        RunError where the spec has no train section, or no data and none is given, and where the loss stops being a
        number; DataError where the data cannot be read; ValueError, with the cure, for arrays that do not fit.
        """
        if self.spec.train is None:
            raise RunError("the spec has no train section", "add train: {epochs: 10}")
        if epochs is not None:
            self.spec = replace(self.spec, train=self.spec.train.but(epochs=epochs))
        watchers = list(callbacks)
        if watched() if progress is None else progress:
            assert self.spec.train is not None
            watchers.append(ProgressLine(self.spec.train.epochs))
        return self._train(self._splits(x, y, validation, data_dir, download), watchers)

    def _splits(
        self,
        x: Entering | None,
        y: Labels | None,
        validation: tuple[Entering, Labels | None] | float | None,
        data_dir: Path | None,
        download: bool,
    ) -> Splits:
        if x is not None:
            return given(self, x, y, validation)
        if y is not None or validation is not None:
            raise ValueError("expected images x beside y and validation; without x the spec's own data is read")
        return self.data(data_dir, download=download)

    def data(self, data_dir: Path | None = None, *, download: bool = False) -> Data:
        """Read the spec's own data: `train`, `validation` (or None), `test` and `class_names`.

        Each split has `pixels`, bytes (n, c, h, w) that are fitted to the network's input and not normalised yet, as
        `predict` takes them, and `labels` (n,) or (n, ...); iterating over it gives an image and its label at a time.
        Several inputs are joined to rows (n, features), and so are several targets. `score` takes a split as it is.
        The files are in `data_dir` if that is given, else where the spec says.

        RunError where the spec has no data section; DataError where the data cannot be read.
        """
        if self.spec.data is None:
            raise RunError("the spec has no data section", "add data: {source: digits}, or give arrays: fit(x, y)")
        return open_data(
            self.spec.data,
            seed=self.spec.seed,
            data_dir=data_dir,
            base=self.spec.base,
            download=download,
            input=self.spec.input,
            output=self.graph.output.shape,
            inputs=Inputs(self.spec.inputs),
        )

    def _train(self, data: Splits, watchers: Sequence[Callback]) -> list[dict[str, Any]]:
        def watch(progress: Progress) -> None:
            for watcher in watchers:
                watcher.on_step(progress)

        rows: list[dict[str, Any]] = []
        try:
            with suppress(StopTraining):
                for epoch in fit(self, data, watch=watch if watchers else None):
                    rows.append(epoch.metrics())
                    for watcher in watchers:
                        watcher.on_epoch(rows[-1])
        finally:
            for watcher in watchers:
                watcher.on_end(rows)
        if self.training is not None:
            self.training.adopt_averages()
        return rows

    def predict(self, images: Entering) -> Any:
        """Return the network's output for images (n, c, h, w), an array (n, ...): logits if the loss has the softmax.

        If several losses give the network several outputs, the result is a mapping from the losses' names to such
        arrays; if the network has several inputs, `images` is a mapping from their names to arrays (n, ...).

        With a data section images are pixels from 0 to 255 in any type, in the shape of the training images, or in the
        network's input shape if `preprocess` was applied to them; they are prepared as in training. Without one,
        numbers enter unchanged. ValueError, with the cure, for other shapes and values. `outputs` takes numbers that
        are normalised already.
        """
        images = self._entering(images)
        return self.outputs_by_name(images) if self.output_names else self.outputs(images)

    def evaluate(self, x: Entering, y: Labels | None = None) -> Score:
        """Score the network on images (n, c, h, w), as `predict` takes them, with labels as `fit` takes them: (n,), ...

        ValueError with the cure for arrays that do not fit.
        """
        images = entering(self, x)
        return self.score(Dataset(images, checked_labels(self, len(images), y)))

    def activations(self, images: Entering, layer: str) -> Array:
        """Return a layer's values at inference, (n, c, h, w) or (n, features), for images as `predict` takes them.

        Layers have the names that `summary` lists; ValueError for another name.
        """
        names = [node.name for node in self.graph.nodes]
        if layer not in names:
            raise ValueError(f"no layer '{layer}': {did_you_mean(layer, names, 'layers')}")
        images = self._entering(images)
        shape = self.graph.node(layer).shape
        outputs = [
            to_public(output)
            for start in range(0, len(images), self.inference_batch)
            for node, _, output in values(self, images[start : start + self.inference_batch], "infer")
            if node.name == layer
        ]
        return np.concatenate(outputs) if outputs else np.empty((0, *shape), self.weights.values.dtype)

    def _entering(self, images: Entering) -> Array:
        if self.spec.inputs or isinstance(images, Mapping):
            return entering(self, images)
        images = np.asarray(images)
        return self.pipeline.images(images) if self.pipeline else images

    def summary(self) -> str:
        """Return a table of the layers with their outputs, parameters and multiply-accumulates, and the totals."""
        return overview(self.graph)

    def __repr__(self) -> str:
        shapes = f"{text(self.graph.input_shape)} -> {text(self.graph.output.shape)}"
        return f"<Model {self.spec.name}: {shapes}, {self.graph.parameter_count:,} parameters>"

    def _repr_html_(self) -> str:
        return overview_html(self.graph)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the spec and all that was learned; workers and plans are rebuilt when they are needed."""
        arrays = {name: array.copy() for name, array in self.weights.arrays()}
        training: tuple[int, dict[str, Array]] = (0, {})
        if self.training is not None:
            slots = {name: array.copy() for name, array in self.training.arrays().items()}
            training = int(self.training.clock), slots
        return _unpickled, (self.spec, self.graph, self.threads, arrays, training, self.pipeline, self.target)

    def save(self, path: str | Path) -> None:
        """Write the network to an .npz file: its spec, its weights, and the properties found in its training images.

        `cnnspec.load` reads it. RunError if the file cannot be written.
        """
        record = self.pipeline.record() if self.pipeline else {}
        network = {"target": self.target.record(), "network": render(self.spec, self.graph), **record}
        write_checkpoint(Path(path), self.weights, None, network)

    def load(self, path: str | Path) -> None:
        """Read weights that `save` or a training wrote; of a training, the moving averages if there are any.

        RunError if they do not fit this network.
        """
        self.take(read_checkpoint(Path(path), most_bytes(self.weights, self.training)))

    def take(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, as `load` does; RunError if they do not fit this network."""
        if self.pipeline is not None and "pipeline" in checkpoint.progress:
            self.pipeline = self.pipeline.restored(checkpoint.progress, checkpoint.path)
        restore(checkpoint, self.weights, None)
        self.adopt(Target.of(checkpoint.progress.get("target", {})))


def compile(
    spec: Spec | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    threads: int | None = None,
    plugins: Sequence[str | Path] = (),
) -> Model:
    """Read a spec, check all that `validate` checks, and make a model with fresh weights.

    `spec` is the path of a file, the text of a spec (which has a line break in it), a mapping with the content of a
    spec, or the result of `load_spec`. `overrides` are PATH=VALUE, as `--set` takes them. `plugins` are files that
    register types; those that the spec names run too.

    SpecError with every finding, each with its place; OSError if the file cannot be read; PluginError if one of
    `plugins` cannot be used.
    """
    if isinstance(spec, Mapping):
        spec = json.dumps(spec, default=_plain) + "\n"  # JSON is also YAML, and can express every mapping
    if isinstance(spec, str) and "\n" in spec:
        spec = loads(spec, "<text>", overrides, plugins=plugins, allow_plugins=True)
    elif not isinstance(spec, Spec):
        spec = load_spec(spec, overrides, plugins=plugins, allow_plugins=True)
    return Model(spec, checked(spec), threads=threads)


def load(path: str | Path, *, checkpoint: str = "last", threads: int | None = None) -> Model:
    """Read a trained network: a run directory, one checkpoint in it, or a file that `Model.save` wrote.

    `checkpoint` is `last` or `best`, for a run directory. Warnings tell of plugins that were changed since the
    training, and of an older checkpoint in the place of the last one.
    RunError if there is no such run or file, or if it is damaged; SpecError if its spec is wrong.
    """
    path = Path(path)
    directory, file = (path, path / f"{checkpoint}.npz") if path.is_dir() else (path.parent, path)
    stored = directory / SPEC
    if path.is_dir() and not stored.is_file():
        raise no_run(path)
    if path.is_dir() or (stored.is_file() and "network" not in read_checkpoint(file).progress):
        record = read_about(directory / ABOUT) if (directory / ABOUT).exists() else {}
        older = superseded(file, record)
        for note in [*check_kept(directory, record), *([older] if older else [])]:
            warnings.warn(note, stacklevel=2)
        spec = loads(read_spec(stored), str(stored), allow_plugins=True)
        return trained(spec, checked(spec), file, record, threads)
    network = read_checkpoint(file).progress.get("network")
    if network is None:
        raise RunError(f"{file} does not say which network it is of", "compile its spec, then model.load(path)")
    model = compile(network, threads=threads)
    model.load(file)
    return model


def trained(spec: Spec, graph: Graph, file: Path, about: Mapping[str, Any], threads: int | None) -> Model:
    """Return the network of a run's spec, with the weights of a checkpoint in its directory.

    `about` is the content of run.json, empty if there is none. RunError if the three are not of one training; the spec
    of another version of cnnspec, which may have other defaults, is not compared.
    """
    model = Model(spec, graph, threads=threads)
    checkpoint = read_checkpoint(file, most_bytes(model.weights, model.training))
    if about:
        data = about.get("data", {})
        require_origin(checkpoint, {"spec": about.get("origin", checkpoint.progress.get("spec")), "data": data})
        if about.get("versions", {}).get("cnnspec") == __version__:
            require_origin(checkpoint, origin(spec, graph, data))
    model.take(checkpoint)
    if model.pipeline is not None:
        model.pipeline = model.pipeline.restored(about, file.parent / ABOUT)
    return model


def _unpickled(
    spec: Spec,
    graph: Graph,
    threads: int,
    arrays: Mapping[str, Array],
    training: tuple[int, Mapping[str, Array]],
    pipeline: Any,
    target: Target,
) -> Model:
    """Rebuild a model from the values that `Model.__reduce__` returned."""
    model = Model(spec, graph, threads=threads)
    model.adopt(target)
    model.pipeline = pipeline
    model.weights.load(arrays)
    if model.training is not None:
        clock, slots = training
        fill(model.training.arrays(), slots)
        model.training.clock[...] = clock
    return model


def _plain(value: object) -> Any:
    """Return a NumPy value or a path in the form that JSON has."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a spec has no {type(value).__name__}: give numbers, texts, lists and mappings")
