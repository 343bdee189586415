"""How verbs open what `train` left."""

from __future__ import annotations

from pathlib import Path

from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.spec import load
from cnnspec.train import Model
from cnnspec.train.run import SPEC


def open_run(path: Path, checkpoint: str, threads: int | None = None) -> Model:
    """The trained network of a run directory, or of one checkpoint file in it; RunError where there is none."""
    directory, file = (path.parent, path) if path.suffix == ".npz" else (path, path / f"{checkpoint}.npz")
    if not (directory / SPEC).is_file():
        raise RunError(f"{directory} is no run directory: it has no {SPEC}", "name a directory made by `cnnspec train`")
    spec = load(directory / SPEC)
    model = Model(spec, build(spec), threads=threads)
    model.load(file)
    return model
