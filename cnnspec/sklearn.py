"""A network as a classifier with scikit-learn's interface, for its pipelines, searches and cross-validation."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from cnnspec.api import Model, compile
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array

try:
    _base: Any = importlib.import_module("sklearn.base")
    _validation: Any = importlib.import_module("sklearn.utils.validation")
    _multiclass: Any = importlib.import_module("sklearn.utils.multiclass")
except ImportError as error:
    raise ImportError("scikit-learn is not installed: python -m pip install 'cnnspec[sklearn]'") from error

DEFAULT: dict[str, Any] = {
    "layers": ["flatten", {"type": "dense", "units": 32}, "relu", {"id": "outputs", "type": "dense", "units": 0}],
    "train": {"epochs": 100, "batch_size": 32, "optimizer": {"type": "adam", "learning_rate": 0.01}},
}


class CnnClassifier(_base.ClassifierMixin, _base.BaseEstimator):  # type: ignore[misc]  # known at run time only
    """A network that is fitted to samples (n, c, h, w) or (n, features) and classes (n,) of any kind.

    `spec` is what `cnnspec.compile` takes: its last layer gives one output a class. Without one, features are scaled
    to a mean of 0 and a deviation of 1, and a dense network of 32 units learns them. `epochs` and `seed` change the
    spec's. Vectors become the network's input shape, row by row. A network with a data section takes pixels, as
    `Model.predict` does. ValueError for samples that do not fit, SpecError for a wrong spec.
    """

    def __init__(
        self,
        spec: str | Path | Mapping[str, Any] | None = None,
        *,
        epochs: float | None = None,
        seed: int | None = None,
        threads: int | None = 1,
    ) -> None:
        self.spec, self.epochs, self.seed, self.threads = spec, epochs, seed, threads

    def fit(self, X: Array, y: Array) -> Self:  # noqa: N803  # scikit-learn's names
        """Train a network with fresh weights on samples and their classes, and return the classifier."""
        x, y = _validation.validate_data(self, X, y, allow_nd=True, ensure_min_samples=2)
        _multiclass.check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("expected samples of two classes or more, got one class")
        self.model_ = self._network(x)
        if self.spec is None:
            deviation = x.std(axis=0)
            self.mean_, self.deviation_ = x.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
        outputs = self.model_.graph.output.shape
        if outputs != (len(self.classes_),) and (outputs, len(self.classes_)) != ((1,), 2):
            raise ValueError(f"expected one output for each of {len(self.classes_)} classes, got {outputs}")
        self.history_ = self.model_.fit(self._entering(x), labels, progress=False)
        self.n_iter_ = len(self.history_)
        return self

    def _network(self, x: Array) -> Model:
        spec: Any = self.spec
        if spec is None:
            *layers, last = DEFAULT["layers"]
            shape = x.shape[1:] if x.ndim == 4 else (1, 1, int(np.prod(x.shape[1:])))
            sized = [*layers, {**last, "units": len(self.classes_)}]
            spec = {"cnnspec": 1, "name": "classifier", "input": shape, **DEFAULT, "layers": sized}
        changes = [] if self.epochs is None else [f"train.epochs={self.epochs}"]
        changes += [] if self.seed is None else [f"seed={self.seed}"]
        model = compile(spec, changes, threads=self.threads)
        if model.spec.train is None:
            raise RunError("the spec has no train section", "add train: {epochs: 10}")
        return model

    def _entering(self, x: Array) -> Array:
        if self.spec is None:
            x = (x - self.mean_) / self.deviation_
        shape = self.model_.graph.input_shape
        if x.ndim == 2 and x.shape[1] == int(np.prod(shape)):
            x = x.reshape(len(x), *shape)
        return x if self.model_.pipeline is not None else x.astype(np.float32)

    def predict_proba(self, X: Array) -> Array:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`, for each sample (n, classes)."""
        _validation.check_is_fitted(self)
        x = _validation.validate_data(self, X, reset=False, allow_nd=True)
        outputs = self.model_.predict(self._entering(x)).astype(np.float64)
        loss = self.model_.loss
        assert loss is not None
        chances = loss.probabilities(outputs.T).T
        if chances.shape[1] == 1:
            chances = np.concatenate([1 - chances, chances], axis=1)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def predict(self, X: Array) -> Array:  # noqa: N803
        """Return the likeliest class of each sample (n,)."""
        chances = self.predict_proba(X)
        return np.asarray(self.classes_[chances.argmax(axis=1)])
