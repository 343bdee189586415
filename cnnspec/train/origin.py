"""What a checkpoint depends on: the spec without its epochs, and the data; files of other trainings are refused."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.graph.render import render
from cnnspec.spec import Spec
from cnnspec.train.checkpoint import Checkpoint

OTHER = {
    "spec": "put back what its training wrote: only train.epochs may grow; see spec.yaml and run.json beside it",
    "data": "put back the files whose checksums are in run.json beside it; train.init learns others from its weights",
}


def origin(spec: Spec, graph: Graph, data: Mapping[str, str]) -> dict[str, Any]:
    """Return what checkpoints contain of their origin: the SHA-256 of the spec without its epochs, and of the data."""
    text = comparable(spec, graph)
    return {"spec": hashlib.sha256(text.encode()).hexdigest(), "data": dict(data)}


def comparable(spec: Spec, graph: Graph) -> str:
    """Return the resolved spec, without its epochs, and with checksums of its plugins instead of their names."""
    named = tuple(dataclasses.replace(plugin, name=plugin.sha256) for plugin in spec.plugins)
    data = spec.data and spec.data.but(root=None)  # the location of the data does not matter: its checksums identify it
    spec = dataclasses.replace(with_epochs(spec, 1), plugins=named, data=data)
    return render(with_init(spec, ""), graph)  # nor does that of initial weights, which the run contains


def with_epochs(spec: Spec, epochs: float) -> Spec:
    """Return the spec with another number of epochs, the only change allowed in a resumed training."""
    return dataclasses.replace(spec, train=spec.train.but(epochs=epochs)) if spec.train else spec


def with_init(spec: Spec, path: str) -> Spec:
    """Return the spec with another path of its initial weights, if it has any."""
    if spec.train is None or spec.train.init is None:
        return spec
    return dataclasses.replace(spec, train=spec.train.but(init=spec.train.init.but(**{"from": path})))


def require_origin(checkpoint: Checkpoint, expected: Mapping[str, Any]) -> None:
    """Raise RunError if a checkpoint belongs to another spec or other data than `origin` returned for its run."""
    for name, help in OTHER.items():
        if checkpoint.progress.get(name) != expected.get(name):
            raise RunError(
                f"{checkpoint.path} was written by a training with another {name}",
                help,
            )
